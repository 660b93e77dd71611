#!/usr/bin/env bash
# Qwen3Guard-Gen on one GPU: 0.6B, 4B or 8B (SIZE); 4B takes 8 GB in bfloat16. In turnguard.yaml: family: qwen3guard
# It judges text only. Qwen3Guard-Stream is another model, which vLLM does not serve.
# Flags without a reason here have theirs in ../one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  "Qwen/Qwen3Guard-Gen-${SIZE:-4B}"
  --served-model-name qwen3guard            # moderator.model
  --host 127.0.0.1 --port 8000
  --dtype bfloat16
  --max-model-len 4096                      # the makers' own example takes 32768
  --gpu-memory-utilization 0.85
  --max-num-seqs 64
  --max-num-queued-reqs 256                 # 0.32
  --shutdown-timeout 20                     # 0.32
)
exec vllm serve "${arguments[@]}" "$@"

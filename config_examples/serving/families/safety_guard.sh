#!/usr/bin/env bash
# Llama 3.1 Nemotron Safety Guard 8B v3 on one GPU of 24 to 80 GB: 8 billion parameters take 16 GB in bfloat16.
# In turnguard.yaml: family: nemotron-safety-guard-8b-v3. It judges text only.
# Flags without a reason here have theirs in ../one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  nvidia/Llama-3.1-Nemotron-Safety-Guard-8B-v3
  --served-model-name safety_guard          # moderator.model
  --host 127.0.0.1 --port 8000
  --dtype bfloat16
  --max-model-len 4096                      # the prompt with its taxonomy takes about 500 of these, with every check
  --gpu-memory-utilization 0.85
  --max-num-seqs 64
  --max-num-queued-reqs 256                 # 0.32
  --shutdown-timeout 20                     # 0.32
)
exec vllm serve "${arguments[@]}" "$@"

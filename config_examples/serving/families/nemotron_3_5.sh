#!/usr/bin/env bash
# Nemotron 3.5 on one GPU of 24 to 80 GB. In turnguard.yaml: family: nemotron-3.5
# No --reasoning-parser is needed: the trace is read inline, and from `reasoning` where a parser splits it off.
# Flags without a reason here have theirs in ../one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  nvidia/Nemotron-3.5-Content-Safety
  --served-model-name nemotron_moderator
  --host 127.0.0.1 --port 8000
  --dtype bfloat16
  --max-model-len 8192                      # a trace of up to 1024 tokens, and the definitions of categories of your own
  --limit-mm-per-prompt '{"image": 1}'
  --gpu-memory-utilization 0.85
  --max-num-seqs 64
  --max-num-queued-reqs 256                 # 0.32
  --shutdown-timeout 20                     # 0.32
)
exec vllm serve "${arguments[@]}" "$@"

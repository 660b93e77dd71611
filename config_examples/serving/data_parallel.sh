#!/usr/bin/env bash
# Several GPUs in one machine, one address. The model fits on one GPU, so it is copied, never split: --tensor-parallel-size would
# add a hop between GPUs to every check. Separate servers behind a balancer (replicas/) isolate failures better; this is simpler.
# Flags without a reason here have theirs in one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"
: "${GPUS:=2}"

arguments=(
  nvidia/Nemotron-3-Content-Safety
  --served-model-name nemotron_moderator
  --host 127.0.0.1 --port 8000
  --data-parallel-size "$GPUS"              # one copy per GPU, one queue each
  --api-server-count "$GPUS"                # pictures are decoded on the CPU, in these processes
  --dtype bfloat16
  --max-model-len 4096
  --limit-mm-per-prompt '{"image": 1}'
  --gpu-memory-utilization 0.85
  --max-num-seqs 64
  --max-num-queued-reqs 256
  --shutdown-timeout 20
)
exec vllm serve "${arguments[@]}" "$@"

#!/usr/bin/env bash
# Llama Guard 4 on one GPU of 40 GB or more: 12 billion parameters take 24 GB in bfloat16. The weights are gated: accept
# Meta's licence on the hub and set HF_TOKEN first. In turnguard.yaml: family: llama-guard-4
# Flags without a reason here have theirs in ../one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  meta-llama/Llama-Guard-4-12B
  --served-model-name llama_guard           # moderator.model
  --host 127.0.0.1 --port 8000
  --dtype bfloat16
  --max-model-len 8192                      # a picture takes more tokens here than for the Nemotrons: about 1500
  --limit-mm-per-prompt '{"image": 1}'      # the model takes several; Turnguard sends one
  --gpu-memory-utilization 0.90
  --max-num-seqs 32
  --max-num-queued-reqs 128                 # 0.32
  --shutdown-timeout 20                     # 0.32
)
exec vllm serve "${arguments[@]}" "$@"

#!/usr/bin/env bash
# One GPU of 24 to 80 GB. The weights take between 8 and 9 GB in bfloat16 (4.3 billion parameters); the rest is room for requests.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"   # guards /v1 only: keep the port private

arguments=(
  nvidia/Nemotron-3-Content-Safety
  --served-model-name nemotron_moderator    # moderator.model
  --host 127.0.0.1 --port 8000              # another address only behind a firewall: /invocations and /metrics take no key
  --dtype bfloat16                          # as trained
  --max-model-len 4096                      # 2000 tokens of content, template, one picture; the model's own 131072 costs memory
  --limit-mm-per-prompt '{"image": 1}'      # the model looks at one; without it the server takes hundreds
  --gpu-memory-utilization 0.85             # leaves room for a neighbour; raise it where there is none
  --max-num-seqs 64                         # bounds how many requests share the GPU, and with it the slowest of them
  --max-num-batched-tokens 8192             # a check is nearly all prompt: larger steps take it in one go
  --max-num-queued-reqs 256                 # 0.32: a full queue says 503 at once, where an unbounded one lets deadlines pass
  --shutdown-timeout 20                     # 0.32: finishes what it has begun when it is stopped; 0 cuts replies off
)
exec vllm serve "${arguments[@]}" "$@"

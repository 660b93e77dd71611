#!/usr/bin/env bash
# One GPU of 8 GB (12 is easier). Weights in fp8 take about half of what they take in bfloat16, which is between 8 and 9 GB.
# Quantising changes verdicts a little: run `turnguard doctor`, and `turnguard eval` on examples of your own, before relying on it.
# Flags without a reason here have theirs in one_gpu.sh.
set -euo pipefail

: "${VLLM_API_KEY:?set VLLM_API_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  nvidia/Nemotron-3-Content-Safety
  --served-model-name nemotron_moderator
  --host 127.0.0.1 --port 8000
  --dtype bfloat16
  --quantization fp8                        # computes in fp8 from compute capability 8.9 (Ada) on; stores in it from 7.5 on
  --max-model-len 4096
  --limit-mm-per-prompt '{"image": 1}'      # also makes vLLM reserve memory for one picture instead of many
  --gpu-memory-utilization 0.92             # nothing else may run on this GPU
  --max-num-seqs 16                         # fewer at once: the room for them is small
  --max-num-batched-tokens 2048             # activations of one step: a quarter of what the large recipe reserves
  --mm-processor-cache-gb 1                 # of main memory; the default is 4
  --enforce-eager                           # no CUDA graphs: slower, and some hundred MB lighter; drop it where it fits
  --max-num-queued-reqs 64                  # 0.32: fewer than on a large GPU, since each waits longer
)
exec vllm serve "${arguments[@]}" "$@"

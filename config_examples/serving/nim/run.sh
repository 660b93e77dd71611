#!/usr/bin/env bash
# NVIDIA's container, which is vLLM inside. What differs, and matters:
#   - an image without text is answered with HTTP 500; Turnguard always sends a text with it
#   - no structured output, no tool calling: Turnguard needs neither
#   - the served name is nvidia/nemotron-3-content-safety unless NIM_SERVED_MODEL_NAME says otherwise   (doctor: model)
#   - readiness is /v1/health/ready, not /health
set -euo pipefail

: "${NGC_API_KEY:?set NGC_API_KEY: docker login nvcr.io takes the same key}"
: "${LOCAL_NIM_CACHE:=$HOME/.cache/nim}"
mkdir -p "$LOCAL_NIM_CACHE"

arguments=(
  --rm --gpus all                                     # what is worth keeping stands in the cache below
  --shm-size 2g                                       # its processes talk through shared memory
  --publish 127.0.0.1:8000:8000                       # not 8000:8000, which opens it to the network
  --volume "$LOCAL_NIM_CACHE:/opt/nim/.cache"         # the weights are fetched once
  --env NGC_API_KEY                                   # by name: the value stays out of the process list
  --env NIM_SERVED_MODEL_NAME=nemotron_moderator      # moderator.model
)
exec docker run "${arguments[@]}" "$@" nvcr.io/nim/nvidia/nemotron-3-content-safety:2.0.0

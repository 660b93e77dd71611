#!/usr/bin/env bash
# SGLang. What differs from vLLM, and matters:
#   - without --enable-multimodal it drops pictures in silence and judges the text alone   (doctor: pictures)
#   - it refuses a conversation that ends on the assistant, which is how outputs and tool calls are judged   (doctor: response)
#     Unless your version or a template of your own accepts that, use SGLang for inputs, retrieval and tool results only, or vLLM.
#   - port 30000, and another name for the picture limit
set -euo pipefail

: "${MODERATOR_KEY:?set MODERATOR_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  --model-path nvidia/Nemotron-3-Content-Safety
  --served-model-name nemotron_moderator
  --host 127.0.0.1 --port 30000
  --enable-multimodal                       # the flag that is missed most
  --limit-mm-data-per-request '{"image": 1}'
  --context-length 4096
  --dtype bfloat16
  --mem-fraction-static 0.85
  --api-key "$MODERATOR_KEY"                # visible in the process list: use a machine of its own
)
exec python3 -m sglang.launch_server "${arguments[@]}" "$@"

#!/usr/bin/env bash
# SGLang. What differs from vLLM, and matters:
#   - without --enable-multimodal it drops pictures in silence and judges the text alone   (doctor: pictures)
#   - it refuses a conversation that ends on the assistant, which is how outputs and tool calls are judged   (doctor: response)
#     Turnguard then has no verdict: `rejected`, not asked again, and on_failure (block) withholds every answer and tool call.
#     What to do, one of these:
#       * leave those checks out and know that answers pass unjudged: check_output=False, check_tool_calls=False (LangChain), no
#         output and tool_output flows (NeMo);
#       * let a vLLM judge them: moderator: {base_url: http://sglang:30000/v1, fallback: {base_url: http://vllm:8000/v1}}, which is
#         asked for what SGLang refuses, and for no more while SGLang is up;
#       * serve with vLLM.
#     Folding the answer into the user's message, as NVIDIA's cookbook does for 3.5, works only behind Turnguard, in a gateway:
#     in a step's own text Turnguard makes the template's delimiters harmless, and judges the whole as one user text.
#   - port 30000, and another name for the picture limit
set -euo pipefail

: "${MODERATOR_KEY:?set MODERATOR_KEY: what turnguard.yaml sends as TURNGUARD_API_KEY}"

arguments=(
  --model-path nvidia/Nemotron-3-Content-Safety       # a hub id or a directory
  --served-model-name nemotron_moderator    # moderator.model
  --host 127.0.0.1 --port 30000             # another address only behind a firewall
  --enable-multimodal                       # the flag that is missed most
  --limit-mm-data-per-request '{"image": 1}'     # the model looks at one
  --context-length 4096                     # 2000 tokens of content, template, one picture
  --dtype bfloat16                          # as trained
  --mem-fraction-static 0.85                # leaves room for a neighbour; raise it where there is none
  --api-key "$MODERATOR_KEY"                # visible in the process list: use a machine of its own
)
exec python3 -m sglang.launch_server "${arguments[@]}" "$@"

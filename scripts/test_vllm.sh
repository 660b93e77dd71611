#!/usr/bin/env bash
# The tests marked `vllm`, against a real vLLM on this machine's CPU. Skips, with the reason, where it cannot run one.
#
#   scripts/test_vllm.sh PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
if [ ! -f tests/vllm/checkpoint/model.safetensors ]; then
    echo "skipped: the trained tiny moderator is not in tests/vllm/checkpoint (tests/vllm/tiny says how it is made)"
    exit 0
fi
status=0
# the last line on stdout is the path of the environment's Python
made=$("$python" scripts/vllm_env.py) || status=$?
if [ "$status" -eq 75 ]; then
    echo "skipped: this machine cannot run the real vLLM (the reason stands above)"
    exit 0
fi
[ "$status" -eq 0 ] || exit "$status"
TURNGUARD_VLLM_PYTHON=$(tail -n 1 <<<"$made") exec "$python" -m pytest -m vllm "$@"

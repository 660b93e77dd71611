#!/usr/bin/env bash
# The tests of the core with the lowest base dependencies that pyproject.toml admits, in a throwaway environment.
#
#   scripts/test_lowest.sh UV PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(realpath "$1")
python=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$uv" venv --quiet --no-project --python "$python" "$work/env"
# the base dependencies at their lowest; what only runs the tests is as new as it is
"$uv" pip install --quiet --python "$work/env/bin/python" --resolution lowest-direct -e .
"$uv" pip install --quiet --python "$work/env/bin/python" hypothesis pytest pytest-asyncio pytest-socket pytest-timeout
"$uv" pip list --quiet --python "$work/env/bin/python" \
    | grep -E -i '^(aiohttp|openai|pillow|py3langid|pydantic|rich|ruamel.yaml|typer) ' | tr -s ' ' | paste -sd ' '
"$work/env/bin/python" -m pytest -q -p no:cacheprovider tests/core tests/cli "$@"

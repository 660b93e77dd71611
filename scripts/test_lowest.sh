#!/usr/bin/env bash
# The tests of the core with the lowest base dependencies that pyproject.toml admits, and those of LangChain with the
# lowest langchain and langchain-core, in throwaway environments.
#
#   scripts/test_lowest.sh UV PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(realpath "$1")
python=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() { # ENVIRONMENT WHAT LISTED: at its lowest; what only runs the tests is as new as it is
    "$uv" venv --quiet --no-project --python "$python" "$work/$1"
    "$uv" pip install --quiet --python "$work/$1/bin/python" --resolution lowest-direct -e "$2"
    "$uv" pip install --quiet --python "$work/$1/bin/python" hypothesis pytest pytest-asyncio pytest-socket pytest-timeout
    "$uv" pip list --quiet --python "$work/$1/bin/python" | grep -E -i "^($3) " | tr -s ' ' | paste -sd ' '
}

install core . 'aiohttp|openai|pillow|py3langid|pydantic|rich|ruamel.yaml|typer'
"$work/core/bin/python" -m pytest -q -p no:cacheprovider tests/core tests/cli "$@"
install langchain '.[langchain]' 'langchain|langchain-core|langgraph'
"$work/langchain/bin/python" -m pytest -q -p no:cacheprovider tests/langchain "$@"

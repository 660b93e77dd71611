#!/usr/bin/env bash
# The built wheel alone: installed with its base dependencies into a fresh environment, away from the source tree.
#
#   scripts/check_wheel.sh UV WHEEL
set -euo pipefail

uv=$(realpath "$1")
wheel=$(realpath "$2")
script=$(realpath "$(dirname "$0")/check_wheel.py")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
"$uv" venv --quiet --no-project env
"$uv" pip install --quiet --no-config --python env/bin/python "$wheel"
# -I: neither the working directory nor PYTHONPATH can lend what the wheel lacks
env/bin/python -I "$script" env/bin/turnguard

#!/usr/bin/env bash
# The built wheel alone: installed with its base dependencies into a fresh environment, away from the source tree; then
# beside NeMo Guardrails, as the drop-in that it is there; then by pip, as a new user does it, up to a blocked prompt.
#
#   scripts/check_wheel.sh UV WHEEL
set -euo pipefail

uv=$(realpath "$1")
wheel=$(realpath "$2")
scripts=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
"$uv" venv --quiet --no-project env
"$uv" pip install --quiet --no-config --python env/bin/python "$wheel"
# -I: neither the working directory nor PYTHONPATH can lend what the wheel lacks
env/bin/python -I "$scripts/check_wheel.py" env/bin/turnguard
"$uv" pip install --quiet --no-config --python env/bin/python "$wheel[nemo]"
env/bin/python -I "$scripts/check_wheel_nemo.py"
env/bin/python -I "$scripts/first_use.py" "$wheel"

#!/usr/bin/env bash
# The peers, each in an environment of its own under .venv-peers: their pins do not go together.
set -euo pipefail
cd "$(dirname "$0")/../.."
# turnguard beside them with the newest openai client, as its users get it (NeMo's server extra pins an older one here)
for spec in "turnguard . openai>=3,<4" "guardrails openai-guardrails==0.3.6" "litellm litellm==1.106.2" "langchain langchain==1.4.7 langchain-openai==1.7.3"; do
    read -r name packages <<<"$spec"
    environment=".venv-peers/$name"
    [ -f "$environment/.done" ] && continue
    python3 -m venv "$environment"
    # shellcheck disable=SC2086
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check $packages
    touch "$environment/.done"
done

#!/usr/bin/env bash
# Installs the servers and the browser that the tests start: PostgreSQL, Redis and Chromium, from Debian's packages.
# Does nothing where they are there already.
set -euo pipefail

missing=()
[ -x "$(command -v redis-server)" ] || missing+=(redis-server)
[ -x "$(command -v chromium)" ] || missing+=(chromium)
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || [ ! -x "$(command -v apt-get)" ]; then
    echo "the tests need ${missing[*]}: install them, then run again" >&2
    exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

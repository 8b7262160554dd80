#!/bin/sh
# What the benchmarks need beside .venv: the peers in a virtual environment of their own, and wrk.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-bench
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi

# packages of Debian and Ubuntu
add() {
    echo "bench: installing $*" >&2
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null 2>&1 || {
        $sudo apt-get update -q >/dev/null
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null
    }
}

lock=benchmarks/requirements.lock
stamp=$venv/.stamp
digest=$(sha256sum "$lock" | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ]; then
    # barman's psycopg2 is compiled
    { command -v pg_config && command -v gcc; } >/dev/null 2>&1 || add libpq-dev gcc
    echo "bench: installing the peers (nginx, Caddy, Traefik, barman)" >&2
    .venv/bin/python -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    printf '%s\n' "$digest" >"$stamp"
fi
command -v wrk >/dev/null 2>&1 || add wrk

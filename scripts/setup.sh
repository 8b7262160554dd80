#!/bin/sh
# Makes .venv from the locked dependencies on a fresh Debian or Ubuntu machine; changes nothing when it is current.
#
#   scripts/setup.sh [LOCK]     LOCK: requirements.lock or requirements-dev.lock (the default)
#
# Root, or a user with sudo: missing system packages are installed. Anybody else: told which ones to ask for.
# A stamp in .venv holds the digest of what was installed, so that a second call costs nothing.
set -eu
cd "$(dirname "$0")/.."
lock=${1:-requirements-dev.lock}
venv=${VENV:-.venv}
stamp=$venv/.asbuilt-$lock.stamp

say() { printf '%s\n' "setup: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

good_python() { # a Python that is new enough and can make a virtual environment with pip in it
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1
}

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
        if command -v "$name" >/dev/null 2>&1 && good_python "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || return 1
        # ask for a password only where somebody can type one
        if [ -t 0 ]; then sudo -v || return 1; else sudo -n true 2>/dev/null || return 1; fi
    fi
    say "installing system packages: $*"
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null 2>&1 </dev/null; then
        as_root apt-get update -q >/dev/null 2>&1 </dev/null || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null 2>&1 </dev/null || return 1
    fi
}

python=$(find_python) || {
    apt_install python3 python3-venv || true
    python=$(find_python) || {
        # older releases carry a newer Python beside their own
        for version in 3.12 3.11; do
            apt_install "python$version" "python$version-venv" && break || true
        done
        python=$(find_python) || fail "needs Python 3.11 or newer with venv; on Debian or Ubuntu: apt-get install python3 python3-venv"
    }
}

digest=$(cat "$lock" pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
here=$(pwd -P)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$digest $here" ]; then
    exit 0
fi

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi

say "installing the locked dependencies (about 400 MB, once)"
log=$venv/setup.log
pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail "pip could not install the dependencies; the whole log is in $log"
    }
}
: >"$log"
pip_install --require-hashes -r "$lock"
if [ "$lock" = requirements-dev.lock ]; then
    pip_install --no-deps --no-build-isolation --editable .
else
    pip_install --no-deps --editable .
fi
printf '%s\n' "$digest $here" >"$stamp"
say "ready"

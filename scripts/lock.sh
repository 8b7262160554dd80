#!/bin/sh
# Writes requirements.lock (what the program needs) and requirements-dev.lock (that, and what its tests
# need): exact versions with hashes for every supported Python on Linux, and no word of where they came from.
# Needs `uv` on the PATH. Run it after a change of the dependencies in pyproject.toml.
set -eu
cd "$(dirname "$0")/.."

lock() {
    output=$1 source=$2
    shift 2
    {
        echo "# Written by scripts/lock.sh from $source. Install with: pip install --require-hashes -r $output"
        uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
            --no-emit-index-url --no-annotate --no-header "$source" "$@"
    } >"$output.new"
    mv "$output.new" "$output"
}

lock requirements.lock pyproject.toml
lock requirements-dev.lock pyproject.toml --extra dev --extra node
lock benchmarks/requirements.lock benchmarks/requirements.in

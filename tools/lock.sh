#!/usr/bin/env bash
# Resolve the two lock files from pyproject.toml, for every platform and for Python 3.11 and newer, with hashes.
# They name no registry: pip asks the one it is configured with. Pass --upgrade to move to the newest versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

resolve() {
    local out="$1"
    shift
    .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --group build --output-file "$out" "$@"
}

resolve requirements.lock "$@"
resolve requirements-dev.lock --extra dev --extra docs --constraint requirements.lock "$@"

#!/usr/bin/env bash
# Resolve the two lock files from pyproject.toml, and those of the clients that tests run in environments of their own,
# for every platform and for Python 3.11 and newer, with hashes; and those of the peers that bench/ runs, without.
# They name no registry: pip asks the one it is configured with. Pass --upgrade to move to the newest versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

resolve() {
    local out="$1"
    shift
    .venv/bin/uv pip compile "$@" --quiet --universal --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file "$out"
}

resolve requirements.lock pyproject.toml --group build --generate-hashes "$@"
resolve requirements-dev.lock pyproject.toml --group build --extra dev --extra docs --constraint requirements.lock \
    --generate-hashes "$@"
for list in tests/serving/clients/*.in; do
    resolve "${list%.in}.lock" "$list" --generate-hashes "$@"
done
for list in bench/peers/serving/*.in; do
    resolve "${list%.in}.lock" "$list" "$@"
done

#!/usr/bin/env bash
# Environments of the servers that bench/serving.py runs beside the gateway: `.venv/peers/NAME` from `NAME.lock`. One
# that is newer than its lock is kept. A peer that does not install is left out: what was said goes to
# `.venv/peers/NAME.error`, and the bench names it. Less than a minute and 1.1 GB for all of them.
# Locks have no hashes: nothing of a peer is part of what is built or shipped here.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

mkdir -p .venv/peers
for lock in bench/peers/serving/*.lock; do
    name="$(basename "$lock" .lock)"
    folder=".venv/peers/$name"
    [[ "$folder/.installed" -nt "$lock" ]] && continue
    echo "installing $lock (once)" >&2
    if {
        .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$folder" &&
            .venv/bin/uv pip install --quiet --python "$folder/bin/python" --requirement "$lock"
    } 2>".venv/peers/$name.error"; then
        touch "$folder/.installed"
        rm -f ".venv/peers/$name.error"
    else
        echo "$name does not install: see .venv/peers/$name.error" >&2
    fi
done

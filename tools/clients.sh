#!/usr/bin/env bash
# Environments of the clients that tests run as they are published and that do not install beside us:
# `.venv/clients/NAME` from `tests/serving/clients/NAME.lock`. One that is newer than its lock is kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for lock in tests/serving/clients/*.lock; do
    name="$(basename "$lock" .lock)"
    folder=".venv/clients/$name"
    if [[ ! "$folder/.installed" -nt "$lock" ]]; then
        echo "installing $lock (once; less than a minute)"
        .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$folder"
        .venv/bin/uv pip install --quiet --python "$folder/bin/python" --require-hashes --requirement "$lock"
        touch "$folder/.installed"
    fi
done

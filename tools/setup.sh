#!/usr/bin/env bash
# Install the locked versions into .venv: `setup.sh base` what runs Mainspring, `setup.sh dev` what tests it besides.
# Called by make when the lock or pyproject.toml is newer than the stamp.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    for name in "${PYTHON:-}" python3.11 python3; do
        if [[ -n "$name" ]] && is_new_enough "$name"; then
            printf '%s' "$name"
            return
        fi
    done
    stop "Mainspring needs Python 3.11 or newer; \`python3\` here is: $(python3 --version 2>&1 || true)" \
        "Install Python 3.11, or name another one:  make setup PYTHON=/path/to/python3.11"
}

make_venv() {
    local python
    python="$(find_python)"
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || stop "\`$python -m venv\` failed." \
        "On Debian and Ubuntu the module is a package of its own:  apt-get install python3-venv"
    pwd -P >.venv/.made-in
}

install() {
    local lock="$1"
    echo "installing $lock (once; a few minutes at most)"
    .venv/bin/python -m pip install --quiet --quiet --require-hashes --requirement "$lock"
}

case "${1:-}" in
    base)
        # An environment's scripts carry its path: one that was moved is made anew.
        if [[ ! -x .venv/bin/python || "$(cat .venv/.made-in 2>/dev/null)" != "$(pwd -P)" ]]; then
            make_venv
        fi
        install requirements.lock
        .venv/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
        touch .venv/.installed-base
        ;;
    dev)
        install requirements-dev.lock
        touch .venv/.installed-dev
        ;;
    *) stop "usage: tools/setup.sh base|dev" ;;
esac

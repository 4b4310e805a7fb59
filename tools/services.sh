#!/usr/bin/env bash
# Have PostgreSQL, Mosquitto and HAProxy on this machine, what connectors and several gateways are tested with, and curl,
# which the pages ask their reader to have. Called by make before the tests; does nothing when they are there. Nothing is started: tools/services.py does that, in a
# temporary folder.
# `tools/services.sh bench` has Redis too, which bench/intake.py runs beside us, and wrk, which loads servers.
set -euo pipefail

has() {
    command -v "$1" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null || [[ -x "/usr/sbin/$1" ]]
}

needed=()
has initdb || needed+=(postgresql)
has mosquitto || needed+=(mosquitto)
has haproxy || needed+=(haproxy)
has curl || needed+=(curl)
[[ "${1:-}" != bench ]] || has redis-server || needed+=(redis-server)
[[ "${1:-}" != bench ]] || has wrk || needed+=(wrk)
((${#needed[@]} == 0)) && exit 0

if command -v apt-get >/dev/null && ((EUID == 0)); then
    echo "installing ${needed[*]} (once)"
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # the packages' own servers are not started
    install() { apt-get install --yes --quiet --quiet --no-install-recommends "${needed[@]}" >/dev/null; }
    install 2>/dev/null || { apt-get update --quiet --quiet && install; }
    exit 0
fi

echo "Connectors, several gateways and the pages are tested with ${needed[*]}, which is not on this machine." \
    "Install it (Debian: apt-get install ${needed[*]}; macOS: brew install ${needed[*]})." >&2
[[ -z "${CI:-}" ]] || exit 1
echo "Without it those tests are skipped here; under CI they fail." >&2

#!/bin/sh
# The demo on a machine that has nothing but Python 3.11+: makes a virtual environment in the checkout, installs
# redsched with its extras, and runs `redsched demo`. Arguments are handed on: sh examples/demo.sh --seconds 20
# Run it again as often as you like; REDSCHED_DEMO_PYTHON chooses another Python.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv="$root/.venv-demo"

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

find_python() {
    for name in ${REDSCHED_DEMO_PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

make_venv() {
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 && [ -x "$venv/bin/pip" ]
}

if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python) || {
        say "redsched needs Python 3.11 or newer, and there is none on PATH."
        exit 2
    }
    say "Making a virtual environment in $venv ..."
    if ! make_venv; then
        # Debian has venv and pip in a package of their own.
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if command -v apt-get >/dev/null 2>&1 && as_root true; then
            say "This Python has no venv: installing it with apt ..."
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                "python$version-venv" >&2 ||
                as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >&2
        fi
        make_venv || {
            say "$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"
            exit 2
        }
    fi
fi

# Installed anew only if the project's metadata changed; the code itself is used from the checkout.
stamp="$venv/.installed"
if [ ! -e "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
    say "Installing redsched and what it needs ..."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[all]" >&2
    : >"$stamp"
fi

exec "$venv/bin/redsched" demo "$@"

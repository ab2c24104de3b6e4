# Sourced by the scripts that run on a machine that has nothing but Python 3.11+:
#   make_venv FOLDER EXTRAS   a virtual environment with this checkout (editable) and the named extras in it; made once,
#                             installed anew when pyproject.toml has changed. REDSCHED_PYTHON chooses another Python.
#   debian PACKAGE...         installs Debian packages, where that is possible; else fails

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

debian() {
    command -v apt-get >/dev/null 2>&1 && as_root true || return 1
    say "Installing $* with apt ..."
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

find_python() {
    for name in ${REDSCHED_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

try_venv() { rm -rf "$2" && "$1" -m venv "$2" >/dev/null 2>&1 && [ -x "$2/bin/pip" ]; }

make_venv() {
    if ! "$1/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python) || { say "redsched needs Python 3.11 or newer, and there is none on PATH."; return 2; }
        say "Making a virtual environment in $1 ..."
        if ! try_venv "$python" "$1"; then
            # Debian has venv and pip in a package of their own.
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            debian "python$version-venv" || debian python3-venv || true
            try_venv "$python" "$1" || {
                say "$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"
                return 2
            }
        fi
    fi
    made_from="$2 $(cksum < pyproject.toml)"
    if [ "$(cat "$1/.made-from" 2>/dev/null)" != "$made_from" ]; then
        say "Installing redsched and what it needs ..."
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$2]" >&2 || return 2
        printf '%s' "$made_from" > "$1/.made-from"
    fi
}

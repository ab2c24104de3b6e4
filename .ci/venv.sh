# Sourced by the scripts that run on a fresh machine: `make_venv FOLDER EXTRAS` makes a virtual environment with this
# project and the named extras in it, once, and again when pyproject.toml has changed.

need() { # COMMAND PACKAGE...: install Debian packages where a command is missing and that is possible
    command -v "$1" >/dev/null 2>&1 && return 0
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing $*" >&2
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        return 1
    fi
}

make_venv() {
    venv=$1 extras=$2
    python=${PYTHON:-python3}
    need "$python" python3 || { echo "Python 3.11 or newer is needed" >&2; return 1; }
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || { echo "$("$python" --version) is too old: Python 3.11 or newer is needed (set PYTHON)" >&2; return 1; }
    stamp="$venv/.made-from"
    wanted="$extras $(cksum < pyproject.toml)"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        # Debian keeps the venv module in a package of its own.
        rm -rf "$venv"
        need no-such-command python3-venv && "$python" -m venv "$venv" \
            || { echo "cannot make a virtual environment: install python3-venv" >&2; return 1; }
    fi
    echo "installing redsched and what it needs into $venv" >&2
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -e ".[$extras]" >&2
    echo "$wanted" > "$stamp"
}

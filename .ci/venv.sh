# Sourced by the scripts that run on a machine that has nothing but Python 3.11+:
#   make_venv FOLDER EXTRAS [GROUP]
#                             a virtual environment with this checkout (editable), the named extras and the dependency group
#                             in it; made once, and installed again when pyproject.toml or the version has changed.
#                             REDSCHED_PYTHON chooses another Python.
#   venv_of FOLDER            prints that folder's name; with REDSCHED_PYTHON one beside it (FOLDER-3.13), so that
#                             environments of several Pythons coexist
#   pythons                   prints each Python that redsched takes and this machine has: its version and its path
#   another_python            prints the path of the newest of them that is of another version than the default
#   step NAME COMMAND...      runs the command and says how long it took; as `set -e` is off in there, of functions too
#   containers                starts a docker daemon and makes the images, as root, where the tests may use containers
#   processes                 prints on how many processes tests run in parallel
#   debian PACKAGE...         installs Debian packages, where that is possible; else fails. With sudo only after a yes to its
#                             question, or where REDSCHED_SUDO=yes has said so beforehand

say() { printf '%s\n' "$*" >&2; }

step() {
    name=$1 began=$(date +%s)
    shift
    status=0
    "$@" || status=$?
    if [ $status = 0 ]; then outcome=done; else outcome="FAILED ($status)"; fi
    say "== $name: $outcome, $(($(date +%s) - began)) s"
    return $status
}

# Where it fails, the tests say what that means: they skip, or, with REDSCHED_REQUIRE_CONTAINERS=1, fail.
containers() {
    if [ "$(id -u)" != 0 ] || [ "${REDSCHED_REQUIRE_CONTAINERS:-}" = 0 ]; then return 0; fi
    bash .ci/containers/start-docker.sh && PYTHON="$(venv_of .venv-test)/bin/python" bash .ci/containers/build-redis-image.sh \
        || say "There are no containers here."
}

processes() {
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    printf '%s\n' "${TEST_PROCESSES:-$((cores > 4 ? 8 : cores * 2))}"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

# Nobody expects of a test or a demo that it installs something for the whole machine.
may_install() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null 2>&1 || return 1
    case ${REDSCHED_SUDO:-} in yes) return 0 ;; no) return 1 ;; esac
    if [ ! -t 0 ]; then
        say "$* could be installed with sudo, but nobody can be asked here; REDSCHED_SUDO=yes allows it."
        return 1
    fi
    printf 'Install %s with sudo apt-get? [y/N] ' "$*" >&2
    read -r answer || return 1
    case $answer in [yY] | [yY][eE][sS]) return 0 ;; *) return 1 ;; esac
}

debian() {
    command -v apt-get >/dev/null 2>&1 && may_install "$@" && as_root true || return 1
    say "Installing $* with apt ..."
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Its version (3.12), or failure where it does not run or is older than 3.11.
version_of() {
    "$1" -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit(1); print("%d.%d" % v[:2])' 2>/dev/null
}

# PATH comes first, then pyenv: what it has need not be on PATH, and what is on PATH need not be chosen there.
candidates() {
    printf '%s\n' python3 python3.14 python3.13 python3.12 python3.11
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null | sort -rV || true
}

pythons() {
    candidates | while read -r name; do
        if version=$(version_of "$name"); then printf '%s %s\n' "$version" "$(command -v "$name")"; fi
    done | awk '!seen[$1]++'
}

find_python() {
    if [ -n "${REDSCHED_PYTHON:-}" ]; then
        version_of "$REDSCHED_PYTHON" >/dev/null && command -v "$REDSCHED_PYTHON"
    else
        pythons | awk 'NR == 1 { print $2 } END { exit NR == 0 }'
    fi
}

another_python() {
    default=$(version_of "$(find_python)") || return 0
    pythons | sort -t. -k2,2nr | awk -v default="$default" '$1 != default { print $2; exit }'
}

venv_of() {
    if [ -z "${REDSCHED_PYTHON:-}" ]; then
        printf '%s\n' "$1"
    elif version=$(version_of "$REDSCHED_PYTHON"); then
        printf '%s\n' "$1-$version"
    else
        say "REDSCHED_PYTHON must be a Python 3.11 or newer: $REDSCHED_PYTHON does not run or is older."
        return 2
    fi
}

try_venv() { rm -rf "$2" && "$1" -m venv "$2" >/dev/null 2>&1 && [ -x "$2/bin/pip" ]; }

make_venv() {
    if ! "$1/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python) || { say "redsched needs Python 3.11 or newer: there is none on PATH or under pyenv."; return 2; }
        say "Making a virtual environment in $1 ..."
        if ! try_venv "$python" "$1"; then
            # Debian has venv and pip in a package of their own.
            version=$(version_of "$python")
            debian "python$version-venv" || debian python3-venv || true
            try_venv "$python" "$1" || {
                say "$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"
                return 2
            }
        fi
    fi
    made_from="$2 ${3:-} $({ cat pyproject.toml; grep '^__version__' redsched/__init__.py; } | cksum)"
    if [ "$(cat "$1/.made-from" 2>/dev/null)" != "$made_from" ]; then
        say "Installing redsched and what it needs ..."
        # pip reads dependency groups by itself since 25.1 only.
        { [ -z "${3:-}" ] || "$1/bin/python" .ci/groups.py "$3"; } > "$1/.requirements" || return 2
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$2]" \
            --requirement "$1/.requirements" >&2 || return 2
        printf '%s' "$made_from" > "$1/.made-from"
    fi
}

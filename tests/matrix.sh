#!/bin/sh
# The demo and all tests on each Python that redsched takes, one after the other: 3.11, 3.12, 3.13 and 3.14, from PATH,
# from pyenv, or, as root on Debian, from a root folder of Debian's forky (3.13 and 3.14; no containers in there).
# Then the ends of the ranges of its libraries, and the servers that can be had here.
#   sh tests/matrix.sh              all of it; about ten minutes for each Python
#   sh tests/matrix.sh 3.12 3.14    only these
#   sh tests/matrix.sh redis-py     the oldest and the newest redis-py that pyproject.toml allows, on .venv-test's Python:
#                                   connections, URLs, TLS, sentinels. As well: msgpack, anyio, croniter
#   sh tests/matrix.sh oldest       the oldest of these four at once
#   sh tests/matrix.sh servers      what speaks to Redis, on the redis-server of PATH, the embedded Valkey, and, as root on
#                                   Debian, on Redis 8.0 and Valkey 8.1 from Debian's trixie
# MATRIX_ROOTS is the folder for the roots of forky and trixie, kept for the next time (default /var/tmp/redsched-roots).
set -u
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
. .ci/folders.sh
roots=${MATRIX_ROOTS:-/var/tmp/redsched-roots}
outcomes=
unset PYTHONDONTWRITEBYTECODE  # see run.sh

# What is run on each: in this checkout, or in the copy of it in a root.
STEPS='REDSCHED_PYTHON=$1 sh examples/demo.sh --seconds 20 && REDSCHED_PYTHON=$1 sh tests/run.sh'

note() { outcomes="$outcomes
$*"; }

in_forky() {
    own_folder "$roots" || return 3
    bash .ci/containers/newer-debian.sh forky "$roots/forky" \
        "python$1" "python$1-venv" redis-server git gcc libc6-dev procps || return 3
    # The container tests would install and start a docker daemon in there.
    bash .ci/containers/in-root.sh "$roots/forky" -- env REDSCHED_REQUIRE_CONTAINERS=0 sh -c "$STEPS" sh "python$1"
}

# What turns on a library.
tests_of() {
    case $1 in
        redis-py) echo tests/store/test_link.py tests/store/test_urls.py tests/security/test_secrets.py tests/cluster/test_sentinel.py ;;
        msgpack)
            echo tests/store/test_codec.py tests/security/test_limits.py tests/security/test_sealing.py tests/upgrades \
                tests/promises/test_9_no_foreign_code.py
            ;;
        anyio)
            echo tests/api/test_life.py tests/api/test_running.py tests/worker/test_slots.py tests/worker/test_threads.py \
                tests/worker/test_tracebacks.py tests/test_pytest_plugin.py
            ;;
        croniter) echo tests/schedules tests/plan ;;
    esac
}

# The range that pyproject.toml allows, without and with the name of the package.
range_of() { sed -n "s/^ *\"${1%-py}\(\[hiredis\]\)\{0,1\}\(>=[^\";]*\)\",.*/\2/p" pyproject.toml; }
oldest_of() { range=$(range_of "$1"); range=${range%%,*}; printf '%s==%s\n' "${1%-py}" "${range#>=}"; }
newest_of() { printf '%s%s\n' "${1%-py}" "$(range_of "$1")"; }

# with_libraries NAME PACKAGES TESTS
with_libraries() {
    folder=$(mktemp -d)
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" $2 \
        && ls "$folder" | sed -n 's/\(.*\)-\(.*\)\.dist-info/\1 \2/p' \
        && PYTHONPATH=$folder "$venv/bin/python" -m pytest -q -n "$(processes)" --dist worksteal -m "not container and not alone" $3
    status=$?
    rm -rf "$folder"
    if [ $status = 0 ]; then note "$1: passed"; else note "$1: FAILED"; fi
}

# In the default environment, which it makes where it is not there.
with_venv() {
    venv=$(venv_of .venv-test)
    if make_venv "$venv" all,neuroglia dev; then "$@"; else note "$*: FAILED"; fi
    return 0
}

LIBRARIES="redis-py msgpack anyio croniter"

libraries() {
    for library in ${*:-$LIBRARIES}; do
        with_libraries "$library, oldest" "$(oldest_of "$library")" "$(tests_of "$library")"
        with_libraries "$library, newest" "$(newest_of "$library")" "$(tests_of "$library")"
    done
}

all_oldest() {
    with_libraries "oldest libraries" "$(for each in $LIBRARIES; do oldest_of "$each"; done)" \
        "$(for each in $LIBRARIES; do tests_of "$each"; done)"
}

# on_server NAME COMMAND: with a redis-server on PATH that runs the command
on_server() {
    folder=$(mktemp -d)
    printf '#!/bin/sh\nexec %s "$@"\n' "$2" >"$folder/redis-server"
    chmod 755 "$folder/redis-server"
    say "== $1: $("$folder/redis-server" --version)"
    PATH="$folder:$PATH" "$venv/bin/python" -m pytest -q -n "$(processes)" --dist worksteal -m "not container and not slow and not alone" \
        tests/store tests/promises tests/semantics tests/faults tests/cluster tests/upgrades
    status=$?
    rm -rf "$folder"
    if [ $status = 0 ]; then note "$1: passed"; else note "$1: FAILED"; fi
}

# A program of another Debian, with that Debian's libraries.
program_in() {
    loader=$(ls "$1"/lib64/ld-linux-*.so.* "$1"/lib/ld-linux-*.so.* 2>/dev/null | head -n 1)
    echo "$loader --library-path $1/usr/lib/$(uname -m)-linux-gnu $1/usr/bin/$2"
}

servers() {
    ours=$(PATH="$PATH" command -v redis-server) && on_server "redis-server of PATH" "$ours"
    embedded=$("$venv/bin/python" -c "from redsched.embedded.server import server_binary; print(server_binary())") \
        && on_server "embedded Valkey" "$embedded"
    if own_folder "$roots" && bash .ci/containers/newer-debian.sh trixie "$roots/trixie" redis-server valkey-server; then
        on_server "Redis of trixie" "$(program_in "$roots/trixie" redis-server)"
        on_server "Valkey of trixie" "$(program_in "$roots/trixie" valkey-server)"
    else
        note "Redis and Valkey of trixie: cannot be had here"
    fi
}

for version in ${*:-3.11 3.12 3.13 3.14}; do
    case $version in
        redis-py | msgpack | anyio | croniter) with_venv libraries "$version" && continue ;;
        oldest) with_venv all_oldest && continue ;;
        servers) with_venv servers && continue ;;
    esac
    python=$(pythons | awk -v wanted="$version" '$1 == wanted { print $2 }')
    if [ -n "$python" ]; then
        say "== Python $version: $python"
        sh -c "$STEPS" sh "$python"
    else
        case $version in
            3.13 | 3.14)
                say "== Python $version: Debian forky in $roots"
                in_forky "$version"
                ;;
            *) say "== Python $version is not here" && false ;;
        esac
    fi
    case $? in 0) note "Python $version: passed" ;; *) note "Python $version: FAILED" ;; esac
done
if [ $# = 0 ]; then
    with_venv libraries
    with_venv servers
fi
printf '%s\n' "$outcomes"
case $outcomes in *FAILED*) exit 1 ;; esac

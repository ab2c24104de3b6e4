#!/bin/sh
# The demo and all tests on each Python that redsched takes, one after the other: 3.11, 3.12, 3.13 and 3.14, from PATH,
# from pyenv, or, as root on Debian, from a root folder of Debian's forky (3.13 and 3.14; no containers in there).
# About a quarter of an hour for each.
#   sh tests/matrix.sh              all of them
#   sh tests/matrix.sh 3.12 3.14    only these
#   sh tests/matrix.sh redis-py     the oldest and the newest redis-py that pyproject.toml allows, on .venv-test's Python:
#                                   connections, URLs, TLS, sentinels
# MATRIX_ROOTS is the folder for forky's root, kept for the next time (default /var/tmp/redsched-roots).
set -u
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
. .ci/folders.sh
roots=${MATRIX_ROOTS:-/var/tmp/redsched-roots}
outcomes=

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

with_redis_py() {
    venv=$(venv_of .venv-test)
    folder=$(mktemp -d)
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "redis$1" \
        && PYTHONPATH=$folder "$venv/bin/python" -c 'import redis; print("redis-py", redis.__version__)' \
        && PYTHONPATH=$folder "$venv/bin/python" -m pytest -q tests/store/test_link.py tests/store/test_urls.py \
            tests/security/test_secrets.py tests/cluster/test_sentinel.py
    status=$?
    rm -rf "$folder"
    if [ $status = 0 ]; then note "redis-py $1: passed"; else note "redis-py $1: FAILED"; fi
}

oldest_and_newest_redis_py() {
    range=$(sed -n 's/.*"redis\[hiredis\]\(.*\)",.*/\1/p' pyproject.toml)
    oldest=${range%%,*}
    make_venv "$(venv_of .venv-test)" dev || { note "redis-py: FAILED"; return; }
    with_redis_py "==${oldest#>=}.0"
    with_redis_py "$range"
}

for version in ${*:-3.11 3.12 3.13 3.14}; do
    if [ "$version" = redis-py ]; then
        oldest_and_newest_redis_py
        continue
    fi
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
[ $# -gt 0 ] || oldest_and_newest_redis_py
printf '%s\n' "$outcomes"
case $outcomes in *FAILED*) exit 1 ;; esac

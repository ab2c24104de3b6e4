#!/bin/sh
# All tests, on a fresh machine: makes .venv-test, installs what is needed, checks style and types, runs everything.
#   sh tests/run.sh                  all of it
#   sh tests/run.sh tests/plan -x    only these, with these options of pytest
set -eu
cd "$(dirname "$0")/.."
. .ci/venv.sh
make_venv .venv-test dev
# Without a redis-server at hand the tests run on the embedded Valkey alone; with one, on both.
need redis-server redis-server || echo "no redis-server here: the tests run on the embedded server" >&2
PATH="$PWD/.venv-test/bin:$PATH"
export PATH
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
ruff check .
ruff format --check .
pyright
exec python -m pytest

#!/bin/sh
# All tests, on a machine that has nothing but Python 3.11+: makes .venv-test, installs what is needed, checks style
# and types, runs everything.
#   sh tests/run.sh                             all of it
#   sh tests/run.sh tests/plan -x               only these, with these options of pytest
#   REDSCHED_PYTHON=python3.13 sh tests/run.sh  on this Python, in an environment beside the other (.venv-test-3.13)
# tests/matrix.sh runs it on each Python.
set -eu
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
venv=$(venv_of .venv-test)
make_venv "$venv" dev
command -v redis-server >/dev/null 2>&1 || debian redis-server \
    || say "There is no redis-server here, and none can be installed: the tests run on the embedded server."
PATH="$PWD/$venv/bin:$PATH"
export PATH
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
ruff check .
ruff format --check .
pyright
exec python -m pytest

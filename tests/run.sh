#!/bin/sh
# All tests, on a machine that has nothing but Python 3.11+: makes .venv-test, installs what is needed, checks style
# and types, runs everything.
#   sh tests/run.sh                             all of it
#   sh tests/run.sh tests/plan -x               only these, with these options of pytest
#   REDSCHED_PYTHON=python3.13 sh tests/run.sh  on this Python, in an environment beside the other (.venv-test-3.13)
#   TEST_PROCESSES=8 sh tests/run.sh        on so many processes (default: two for each processor; they mostly wait)
# tests/matrix.sh runs it on each Python.
set -eu
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
venv=$(venv_of .venv-test)
make_venv "$venv" all,neuroglia dev
command -v redis-server >/dev/null 2>&1 || debian redis-server \
    || say "There is no redis-server here, and none can be installed: the tests run on the embedded server."
PATH="$PWD/$venv/bin:$PATH"
export PATH
# The tests start hundreds of processes of Python: without bytecode each would compile redsched again.
unset PYTHONDONTWRITEBYTECODE
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
# While nothing else loads the machine: the docker daemon has 15 s for its start, and no more.
step "containers" containers
step "style" sh -c "ruff check . && ruff format --check ."
step "security" bandit -q -c pyproject.toml -r redsched
# Types are checked beside the tests; both are seen to their end, whichever fails.
checked=$(mktemp)
trap 'rm -f "$checked"' EXIT
pyright >"$checked" 2>&1 &
pyright=$!
failed=
step "tests, $(processes) processes" python -m pytest -m "not alone" -n "$(processes)" --dist worksteal || failed="$failed tests"
step "types" wait "$pyright" || failed="$failed types"
cat "$checked"
step "tests that need the machine for themselves" python -m pytest -m alone || failed="$failed tests-alone"
[ -z "$failed" ] || { say "FAILED:$failed"; exit 1; }

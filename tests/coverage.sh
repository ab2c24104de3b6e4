#!/bin/sh
# Branch coverage of redsched/ by the tests that take a few minutes, child processes included. Fails below the floor in
# pyproject.toml (tool.coverage.report), which may only rise.
#   sh tests/coverage.sh                  the selection that the floor is of
#   sh tests/coverage.sh tests/cluster    other tests, against no floor
set -eu
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
venv=$(venv_of .venv-test)
make_venv "$venv" all,neuroglia dev
PATH="$PWD/$venv/bin:$PATH"
export PATH
floor=
if [ $# = 0 ]; then
    # Left out are the rooms that start many servers, or many processes, and take long.
    set -- -m "not slow and not container" tests/api tests/cli tests/config tests/declarations tests/integrations \
        tests/metrics tests/plan tests/policies tests/reactive tests/schedules tests/security tests/semantics \
        tests/spec tests/store tests/worker
else
    floor=--fail-under=0
fi
rm -rf .coverage
mkdir -p .coverage
coverage run -m pytest -q "$@"
coverage combine -q
exec coverage report --show-missing $floor

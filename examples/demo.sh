#!/bin/sh
# The demo on a machine that has nothing but Python 3.11+: makes a virtual environment in the checkout, installs
# redsched with its extras, and runs `redsched demo`. Arguments are handed on: sh examples/demo.sh --seconds 20
# Run it again as often as you like.
set -eu
cd "$(dirname -- "$0")/.."
. .ci/venv.sh
venv=$(venv_of .venv-demo)
make_venv "$venv" all
exec "$venv/bin/redsched" demo "$@"

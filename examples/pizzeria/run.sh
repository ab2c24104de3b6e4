#!/bin/sh
# The pizzeria on a machine that has nothing but Python 3.11+: makes a virtual environment in the checkout, starts the web
# application and a worker, places two orders, and shows what happens. Ctrl-C ends it; --once ends by itself.
set -eu
cd "$(dirname -- "$0")/../.."
. .ci/venv.sh
make_venv .venv-pizzeria all
.venv-pizzeria/bin/python -m pip install --quiet --disable-pip-version-check -r examples/pizzeria/requirements.txt
exec .venv-pizzeria/bin/python examples/pizzeria/run.py "$@"

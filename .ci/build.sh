#!/bin/sh
# The distributions of a release, checked, in dist/: sh .ci/build.sh vX.Y.Z
# Needs the packages build and twine. The tag must be the version of redsched/__init__.py, and CHANGELOG.md must have its section.
set -eu
cd "$(dirname -- "$0")/.."
tag=${1:?the tag, such as v1.2.0}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' redsched/__init__.py)
if [ "$tag" != "v$version" ]; then
    echo "build.sh: the tag is $tag, but redsched/__init__.py has the version $version: the tag must be v$version" >&2
    exit 1
fi
if ! grep -q "^## \[$version\]" CHANGELOG.md; then
    echo "build.sh: CHANGELOG.md has no section [$version]: see docs/releasing.md" >&2
    exit 1
fi
rm -rf dist
python -m build --outdir dist .
python -m twine check --strict dist/*

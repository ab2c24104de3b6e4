#!/bin/bash
# Make a root folder of a newer Debian, for what this machine's release does not have: another Python, Redis or Valkey.
#   newer-debian.sh SUITE FOLDER [PACKAGE...]    e.g. forky /tmp/forky python3.14 python3.14-venv redis-server
# Enter it with in-root.sh, or make an image of it: tar -C FOLDER -c . | docker import - NAME
# trixie has Python 3.13, Redis 8.0, Valkey 8.1; forky Python 3.13 and 3.14, Redis 8.0, Valkey 9.1. Half a minute.
# Needs: root, Debian with its packages. Idempotent: a folder that was made is taken as it is.
set -euo pipefail
fail() { echo "newer-debian: error: $*" >&2; exit 1; }

[ $# -ge 2 ] || fail "usage: newer-debian.sh SUITE FOLDER [PACKAGE...]"
suite=$1 folder=$2; shift 2
wanted="$suite $*"
# shellcheck source=/dev/null
. "$(dirname "$0")/../folders.sh"
if [ -e "$folder" ] || [ -L "$folder" ]; then own_folder "$folder" || fail "what is in $folder would be run as root"; fi
[ "$(cat "$folder/.made-from" 2>/dev/null)" != "$wanted" ] || { echo "newer-debian: $folder is there already"; exit 0; }
[ "$(id -u)" = 0 ] || fail "this is not root"
if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || fail "there is no debootstrap and no apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap; } >/dev/null 2>&1 \
        || fail "apt-get install debootstrap failed"
fi
# Which of the two files is there depends on the release; a comment may name a mirror that has no other releases.
sources=$(sed '/^ *#/d' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
mirror=$(grep -oE 'https?://[^ ]+' <<<"$sources" | head -n 1) \
    || fail "no Debian mirror is named in /etc/apt/sources.list or /etc/apt/sources.list.d/debian.sources"
script=/usr/share/debootstrap/scripts/$suite; [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
packages=$(IFS=,; echo "ca-certificates${*:+,$*}")
log=$(mktemp); trap 'rm -f "$log"' EXIT
rm -rf --one-file-system "$folder"
# The keys of a newer release are not in an older one's keyring.
debootstrap --variant=minbase --no-check-gpg --include="$packages" "$suite" "$folder" "$mirror" "$script" >"$log" 2>&1 \
    || fail "debootstrap $suite: $(tail -n 1 "$log")"
# It reaches what this machine reaches: the same names, package indexes and certificate authorities.
for f in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$f" ] || cp -L "$f" "$folder$f"
done
echo "$wanted" >"$folder/.made-from"
echo "newer-debian: $suite in $folder"

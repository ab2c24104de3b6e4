#!/bin/bash
# Run a command in a root folder that newer-debian.sh made, in a copy of this checkout as it is in the working tree.
#   in-root.sh FOLDER COMMAND [ARGUMENT...]
# It has its own mounts and process ids, so that nothing of it is left when it ends. Needs: root. No docker in there.
set -euo pipefail
fail() { echo "in-root: error: $*" >&2; exit 1; }

[ $# -ge 2 ] || fail "usage: in-root.sh FOLDER COMMAND [ARGUMENT...]"
folder=$(cd "$1" && pwd); shift
[ "$(id -u)" = 0 ] || fail "this is not root"
unshare --mount --pid --fork true 2>/dev/null || fail "namespaces cannot be made here"
cd "$(dirname "$0")/../.."
# What git knows or would take; of an earlier copy only the environments stay, since they are slow to make.
mkdir -p "$folder/checkout"
find "$folder/checkout" -mindepth 1 -maxdepth 1 ! -name '.venv*' -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from=- --create | tar --extract --directory "$folder/checkout"
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child bash -c '
    set -e
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    mount --rbind /sys "$0/sys"
    exec chroot "$0" /bin/sh -c "cd /checkout && exec \"\$@\"" sh "$@"' "$folder" "$@"

#!/bin/bash
# Run a command in a root folder that newer-debian.sh made, in the same working directory.
#   in-root.sh FOLDER PATH... -- COMMAND [ARGUMENT...]    each PATH is mounted at its place, with the working directory
# It has its own mounts and process ids: nothing of it is left when it ends, and it ends with this script. The network is
# the machine's. Needs: root. No docker in there.
set -euo pipefail
fail() { echo "in-root: error: $*" >&2; exit 1; }

usage="usage: in-root.sh FOLDER PATH... -- COMMAND [ARGUMENT...]"
[ $# -ge 3 ] || fail "$usage"
[ -e "$1/bin/sh" ] || fail "$1 is no root folder; newer-debian.sh makes one"
# shellcheck source=/dev/null
. "$(dirname "$0")/../folders.sh"
own_folder "$1" || fail "what is in $1 would be run as root"
folder=$(cd "$1" && pwd); shift
[ "$(id -u)" = 0 ] || fail "this is not root"
paths=("$PWD")
while [ $# -gt 0 ] && [ "$1" != -- ]; do paths+=("$1"); shift; done
[ $# -ge 2 ] || fail "$usage"
shift
unshare --mount --pid --fork true 2>/dev/null || fail "mounts and process ids cannot be separated here"
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child bash -c '
    set -e
    folder=$0 count=$1; shift
    mount -t proc proc "$folder/proc"
    mount --rbind /dev "$folder/dev"
    mount --rbind /sys "$folder/sys"
    for path in "${@:1:count}"; do
        mkdir -p "$folder$path"
        mount --rbind "$path" "$folder$path"
    done
    shift "$count"
    exec chroot "$folder" /bin/sh -c "cd \"\$0\" && exec \"\$@\"" "$PWD" "$@"' "$folder" "${#paths[@]}" "${paths[@]}" "$@"

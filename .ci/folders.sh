# Sourced by scripts that use a fixed folder, such as one under /tmp, where any user can make what we look for:
#   own_folder FOLDER   makes it, for this user alone; fails, and says why, where it is another user's or others may write to it
own_folder() {
    [ -e "$1" ] || [ -L "$1" ] || mkdir -p -m 700 -- "$1" || return 1
    if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -O "$1" ] || [ -n "$(find "$1" -prune \( -perm -020 -o -perm -002 \))" ]; then
        printf '%s must be a folder of this user, to which nobody else may write, and no link: remove it, or name another\n' \
            "$1" >&2
        return 1
    fi
}

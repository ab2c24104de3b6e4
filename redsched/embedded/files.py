"""The files of an embedded server: each belongs to this user, and no other user can replace it.

Another user who can write to the folder, or to one above it, could have us join a server of theirs, write through
their symbolic links, or end a process of their choice. So a folder is checked with all that lead to it, and a file
is opened without following a link. Imports the standard library only, for the keeper.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["LOG", "FolderError", "check_contents", "check_folder", "make_folder", "open_file"]

SERVERS_FILES = re.compile(r"(server\.(log|pid|lock)|(users|keeper|start)\.lock|redis\.sock|temp-.*|.*\.(rdb|aof))")
"""What the keeper, the users and the server itself open, or write, in the folder."""
DATA_FOLDER = "appendonlydir"
LOG = "server.log"
MAX_LINKS = 40
_ANY_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderError(PermissionError):
    """A folder or a file cannot be trusted; the text names it, and says why and what to do."""


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _not_ours(path: Path, uid: int) -> FolderError:
    return FolderError(
        f"{path} belongs to {_name(uid)}, and this process runs as {_name(os.geteuid())}; "
        "use a folder of this user, such as that of embedded://"
    )


def _is_private_group(gid: int) -> bool:
    """Whether the group has this user as its only member, as many systems make it for each user."""
    if os.geteuid() == 0:
        return False
    with suppress(KeyError):
        me, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
        return me.pw_gid == gid and me.pw_name == group.gr_name and set(group.gr_mem) <= {me.pw_name}
    return False


def _in_user_namespace() -> bool:
    """Whether the system's own folders may seem to belong to the user `nobody`, as in a rootless container."""
    try:
        mapped = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return mapped != ["0", "0", "4294967295"]


def _check_above(path: Path) -> None:
    """A folder on the way: only this user and root can replace what is in it."""
    found = path.lstat()
    if found.st_uid not in (0, os.geteuid()) and not (found.st_uid == 65534 and _in_user_namespace()):
        raise FolderError(
            f"{path} belongs to {_name(found.st_uid)}, who could replace what is in it; use a folder elsewhere"
        )
    others = found.st_mode & (0o002 if _is_private_group(found.st_gid) else 0o022)
    if others and not found.st_mode & stat.S_ISVTX:
        raise FolderError(
            f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o}), and replace what is in it; "
            f"chmod go-w {path}, or use a folder elsewhere"
        )


def make_folder(path: Path) -> Path:
    """The folder without links in its path, made where it is not there, once all that lead to it are checked.

    Raises:
        FolderError: another user owns, or may write to, one of them; or a link on the way is another user's.
        OSError: it cannot be made.
    """
    real = Path("/")
    parts = list(reversed(path.expanduser().absolute().parts[1:]))
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            real = real.parent
            continue
        _check_above(real)
        there = real / part
        if not os.path.lexists(there):
            there.mkdir(mode=0o700, exist_ok=True)
        found = there.lstat()
        if not stat.S_ISLNK(found.st_mode):
            real = there
            continue
        links += 1
        if links > MAX_LINKS:
            raise FolderError(f"{path} leads through too many symbolic links")
        if found.st_uid not in (0, os.geteuid()):
            raise FolderError(f"{there} is a symbolic link of {_name(found.st_uid)}; use a folder elsewhere")
        target = there.readlink()
        real = Path("/") if target.is_absolute() else real
        parts += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    check_folder(real)
    return real


def check_folder(folder: Path) -> None:
    """The folder itself is ours, and only we may write to it.

    Raises:
        FolderError: it is not.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FolderError(f"{folder} is not a folder")
    if found.st_uid != os.geteuid():
        raise _not_ours(folder, found.st_uid)
    if found.st_mode & 0o022:
        raise FolderError(
            f"others may write to {folder} (mode {stat.S_IMODE(found.st_mode):04o}); if you trust what is in it: "
            f"chmod go-w {folder}"
        )


def check_contents(folder: Path) -> None:
    """What a server in the folder would open is ours: no links, no files of others, none that others may write to.

    Raises:
        FolderError: names the first that is not.
    """
    for path in folder.iterdir():
        if SERVERS_FILES.fullmatch(path.name) or path.name == DATA_FOLDER:
            with suppress(FileNotFoundError):  # of a server that is running
                _check_file(path, path.lstat())
    data = folder / DATA_FOLDER
    for path in data.iterdir() if data.is_dir() else ():
        with suppress(FileNotFoundError):
            _check_file(path, path.lstat())


def _check_file(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise FolderError(f"{path} is a symbolic link, which is not followed; remove it, or use another folder")
    if found.st_uid != os.geteuid():
        raise _not_ours(path, found.st_uid)
    # To read the log is to show it: nothing is decided by what stands there.
    if found.st_mode & 0o022 and not stat.S_ISSOCK(found.st_mode) and path.name != LOG:
        raise FolderError(f"others may write to {path}; if you trust what is in it: chmod go-w {path}")
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise FolderError(f"{path} is another file as well (a hard link); remove it, or use another folder")


def open_file(folder: Path, name: str, flags: int) -> int:
    """A descriptor of a file in the folder, which is made if it is not there and the flags say O_CREAT.

    Raises:
        FolderError: it is a link, not a regular file, or not ours alone.
    """
    above = os.open(folder, _ANY_FOLDER)
    try:
        if os.fstat(above).st_uid != os.geteuid():
            raise _not_ours(folder, os.fstat(above).st_uid)
        try:
            # O_NONBLOCK: a FIFO in its place must not hold us.
            how = flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(name, how, 0o600, dir_fd=above)
        except OSError:
            with suppress(FileNotFoundError):
                _check_file(folder / name, os.stat(name, dir_fd=above, follow_symlinks=False))
            raise
    finally:
        os.close(above)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FolderError(f"{folder / name} is not a regular file; remove it, or use another folder")
        _check_file(folder / name, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

"""The connection options that a URL or `redis_options` may contain, each with its check; and those that redsched sets
itself, each with the setting to use instead."""

from __future__ import annotations

import difflib
import math
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from redsched.checks import is_int, is_number
from redsched.logs.redaction import HIDDEN, shown_name, shown_value

__all__ = ["OPTIONS", "Need", "Option", "WrongOptionError", "is_secret", "read_options", "shown_option"]

_SIMPLE = re.compile(r"[A-Za-z0-9_./+,:-]*").fullmatch
"""Text that needs no quoting, and so cannot be the rest of another part of the URL."""

Need = Literal["", "tcp", "tls", "sentinel", "users"]
"""The feature that a server must have for an option to apply."""


class WrongOptionError(ValueError):
    """An option cannot be used. The text says why, and shows no secret."""


class _MustBeError(Exception):
    """A value is invalid. The text says what it must be."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Its check returns the value for redis-py, or raises _MustBeError."""

    check: Callable[[Any], Any]
    meaning: str
    needs: Need = ""
    in_url: bool = True
    """False: its value is an object, which only `redis_options` can contain."""
    secret: bool = False


def _seconds(value: Any) -> float:
    problem = "a number of seconds above 0 and up to 3,600"
    if not isinstance(value, str) and not is_number(value):
        raise _MustBeError(problem)
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        raise _MustBeError(problem) from None
    if not math.isfinite(seconds) or not 0 < seconds <= 3600:
        raise _MustBeError(problem)
    return seconds


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        text = str(value)
        digits = text.isascii() and text.isdigit() and len(text) < 12
        if not (isinstance(value, str) or is_int(value)) or not digits or not least <= int(text) <= most:
            raise _MustBeError(f"a whole number from {least:,} to {most:,}")
        return int(text)

    return check


def _boolean(value: Any) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = known.get(str(value).lower()) if isinstance(value, bool | int | str) else None
    if found is None:
        raise _MustBeError("true or false")
    return found


def _text(value: Any) -> str:
    if not value or "\0" in _credential(value):
        raise _MustBeError("text that is not empty")
    return value


def _credential(value: Any) -> str:
    """A name or a password. Empty text counts as missing, as in `redis://:@host`."""
    try:
        value.encode()
    except (AttributeError, UnicodeEncodeError):
        raise _MustBeError("text") from None
    return str(value)


def _path(value: Any) -> str:
    try:
        return _text(os.fspath(value))
    except (TypeError, _MustBeError):
        raise _MustBeError("the path of a file or folder") from None


def _client_name(value: Any) -> str:
    if not isinstance(value, str) or not value or not all("!" <= character <= "~" for character in value):
        raise _MustBeError("text of printable ASCII without spaces")
    return value


def _cert_reqs(value: Any) -> str:
    if value is None:
        return "none"
    name = value.name if isinstance(value, ssl.VerifyMode) else value
    short = name.lower().removeprefix("cert_") if isinstance(name, str) else ""
    if short not in ("required", "optional", "none"):
        raise _MustBeError("required, optional or none")
    return short


def _tls_version(value: Any) -> ssl.TLSVersion:
    text = value.name if isinstance(value, ssl.TLSVersion) else str(value)
    found = {"1.2": ssl.TLSVersion.TLSv1_2, "771": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3,
             "772": ssl.TLSVersion.TLSv1_3}.get(text.removeprefix("TLSv").replace("_", "."))  # fmt: skip
    if found is None:
        raise _MustBeError("1.2 or 1.3")
    return found


def _verify_flags(value: Any) -> list[ssl.VerifyFlags]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        flags = [part if isinstance(part, ssl.VerifyFlags) else ssl.VerifyFlags[part.strip()] for part in parts]
    except (TypeError, KeyError, AttributeError):
        raise _MustBeError("names of ssl.VerifyFlags with commas between them, such as VERIFY_X509_STRICT") from None
    if not flags:
        raise _MustBeError("at least one name of ssl.VerifyFlags")
    return flags


def _keepalive(value: Any) -> dict[int, int]:
    if not isinstance(value, Mapping) or not all(type(part) is int for pair in value.items() for part in pair):
        raise _MustBeError("a dict from the socket module's TCP_KEEP… constants to whole numbers")
    return dict(value)


def _provider(value: Any) -> Any:
    if not callable(getattr(value, "get_credentials", None)):
        raise _MustBeError("an object with a method get_credentials(), as redis-py's CredentialProvider")
    return value


OPTIONS: Final[Mapping[str, Option]] = {
    "username": Option(_credential, "name of an ACL user of the server", needs="users", secret=True),
    "password": Option(_credential, "password of that user, or of the server", needs="users", secret=True),
    "db": Option(_whole(0, 2**31 - 1), "database number"),
    "client_name": Option(_client_name, "name of the connections in CLIENT LIST"),
    "socket_timeout": Option(_seconds, "seconds that a command may take before its connection counts as broken; 10"),
    "socket_connect_timeout": Option(_seconds, "seconds to wait for a connection; 5"),
    "socket_read_size": Option(_whole(64, 2**24), "number of bytes per read"),
    "socket_keepalive": Option(_boolean, "whether TCP keep-alive probes are sent", needs="tcp"),
    "socket_keepalive_options": Option(_keepalive, "how often they are sent", needs="tcp", in_url=False),
    "credential_provider": Option(
        _provider, "an object that provides the user and password of each connection", needs="users", in_url=False,
        secret=True,
    ),
    "ssl_ca_certs": Option(_path, "file with the certificates of the trusted CAs", needs="tls"),
    "ssl_ca_path": Option(_path, "folder with them", needs="tls"),
    "ssl_ca_data": Option(_text, "their text (PEM)", needs="tls", secret=True),
    "ssl_certfile": Option(_path, "file with the client's certificate", needs="tls"),
    "ssl_keyfile": Option(_path, "file with its key", needs="tls", secret=True),
    "ssl_password": Option(_text, "password of that key", needs="tls", secret=True),
    "ssl_cert_reqs": Option(_cert_reqs, "required; with none the server's certificate is not checked", needs="tls"),
    "ssl_check_hostname": Option(_boolean, "whether the certificate must name the host; true", needs="tls"),
    "ssl_min_version": Option(_tls_version, "minimum version of TLS: 1.2 or 1.3", needs="tls"),
    "ssl_ciphers": Option(_text, "ciphers of TLS 1.2, in OpenSSL's notation", needs="tls"),
    "ssl_include_verify_flags": Option(_verify_flags, "additional certificate checks", needs="tls"),
    "ssl_exclude_verify_flags": Option(
        _verify_flags, "checks to omit: Python 3.13 adds VERIFY_X509_STRICT, which old CAs fail", needs="tls"
    ),
    "sentinel_username": Option(_credential, "name of a user of the sentinels", needs="sentinel", secret=True),
    "sentinel_password": Option(
        _credential, "password of that user, or of the sentinels", needs="sentinel", secret=True
    ),
}  # fmt: skip
"""Every supported option, in the order of the guide."""

_MADE_HERE = "redsched creates its connections itself"
_RESENT = "redsched itself decides which commands may be repeated; use the setting retry_for for the duration"
_BYTES = "redsched reads and writes bytes"
_WHERE = "the URL says where the server is"
SET_HERE: Final[Mapping[str, str]] = {
    "max_connections": "use the setting connection_pool_size instead",
    "health_check_interval": "use the setting health_check_interval of the scheduler instead",
    "timeout": "a call waits for a pool connection as long as for a command",
    "retry": _RESENT, "retry_on_timeout": _RESENT, "retry_on_error": _RESENT,
    "encoding": _BYTES, "encoding_errors": _BYTES, "encoder_class": _BYTES,
    "parser_class": _MADE_HERE, "connection_class": _MADE_HERE, "connection_pool": _MADE_HERE,
    "connection_pool_class": _MADE_HERE, "single_connection_client": _MADE_HERE, "redis_connect_func": _MADE_HERE,
    "event_dispatcher": _MADE_HERE, "auto_close_connection_pool": _MADE_HERE,
    "host": _WHERE, "port": _WHERE, "path": _WHERE, "unix_socket_path": _WHERE,
    "ssl": "use rediss:// instead of redis:// for TLS",
}  # fmt: skip
"""Options of redis-py that redsched would override, or that would break it."""
FIXED: Final[Mapping[str, tuple[str, str]]] = {
    "protocol": ("2", "redsched speaks RESP2"),
    "decode_responses": ("false", _BYTES),
}
"""Options with only one valid value."""
_NEEDS: Final[Mapping[str, str]] = {
    "tcp": "a TCP connection: a Unix socket does not have this option",
    "tls": "TLS: use rediss:// instead of redis://",
    "sentinel": "a URL of sentinels: redis+sentinel://…",
    "users": "a server with users: the embedded server has none",
}


def is_secret(name: str) -> bool:
    """Whether an option's value must not be shown. The value of an unknown option may be a mistyped password."""
    option = OPTIONS.get(name)
    return option.secret if option is not None else name not in SET_HERE and name not in FIXED


def _shown(name: str, value: Any) -> str:
    return "" if is_secret(name) else f" is {shown_value(value)}; it"


def shown_option(name: str, value: str) -> str:
    """An option of a URL, in a form that may be shown."""
    if name not in OPTIONS and name not in SET_HERE and name not in FIXED:
        return HIDDEN  # its name may be part of a password that is not percent-encoded
    if name in OPTIONS and not is_secret(name) and _SIMPLE(value):
        try:
            OPTIONS[name].check(value)
        except _MustBeError:
            return f"{name}={HIDDEN}"
        return f"{name}={value}"
    return f"{name}={HIDDEN}"


def read_options(given: Mapping[Any, Any], has: frozenset[Need], *, in_url: bool) -> dict[str, Any]:
    """Check options by name, and convert them to redis-py's.

    Args:
        given: the options by name; in a URL all values are text.
        has: the features of the URL's kind of server.
        in_url: whether they come from the URL.

    Raises:
        WrongOptionError: an option is unknown, set by redsched itself, useless with this URL, or has a wrong value.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in SET_HERE:
            raise WrongOptionError(f"the option {name} is not supported: {SET_HERE[name]}")
        if name in FIXED:
            right, why = FIXED[name]
            if str(value).lower() not in (right, {"false": "0"}.get(right, right)):
                raise WrongOptionError(f"{name} is {shown_value(value)}; it must be {right}: {why}")
            continue
        option = OPTIONS.get(name)
        if option is None or (in_url and not option.in_url):
            raise WrongOptionError(_unknown(name, in_url))
        if option.needs and option.needs not in has:
            raise WrongOptionError(f"the option {name} needs {_NEEDS[option.needs]}")
        try:
            read = option.check(value)
        except _MustBeError as error:
            raise WrongOptionError(f"{name}{_shown(name, value)} must be {error}") from None
        if read != "":
            found[name] = read
    return found


def _unknown(name: Any, in_url: bool) -> str:
    usable = [known for known, option in OPTIONS.items() if option.in_url or not in_url]
    near = difflib.get_close_matches(str(name).lower(), usable, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    # In a URL, the name may be part of a password that is not percent-encoded.
    shown = shown_name(name) if near or not in_url or name in OPTIONS else HIDDEN
    return f"{shown!r} is not an option of a connection; {hint}The options are {', '.join(usable)}"

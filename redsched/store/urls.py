"""URLs of servers: which there are, what each part of them means, and how they are shown."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote

from redsched.errors import InvalidConfigError
from redsched.store.connection_options import Need, WrongOptionError, read_options
from redsched.store.url_parts import SCHEMES, Kind, UrlParts, kind_of, split_url, without_password

__all__ = ["URL_FORMS", "Kind", "ServerUrl", "UrlParts", "kind_of", "parse_url", "split_url", "without_password"]

URL_FORMS: Final = (
    "redis://host:port/db, rediss://host:port/db (TLS), unix:///path/redis.sock, embedded:///absolute/folder, "
    "redis+sentinel://host,host/service, redis+cluster://host,host, the last two with rediss for TLS; "
    "valkey and valkeys are read as redis and rediss"
)
"""The one list of what a URL may be."""

PORTS: Final[Mapping[Kind, int]] = {"server": 6379, "cluster": 6379, "sentinel": 26379}
MAX_SOCKET_PATH: Final = 107
"""Bytes of a unix socket's path, on Linux."""
_AMBIGUOUS: Final = "its port is not a number, or a `/`, `?`, `#` or `@` of its password or path is not percent-encoded"


class _WrongUrlError(ValueError):
    """A URL is invalid. The text says why."""


@dataclass(frozen=True, slots=True, repr=False)
class ServerUrl:
    """A URL, read and checked, with the options of its connections."""

    kind: Kind
    secure: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    """Of the socket, or of the embedded server's folder ("" = the default one)."""
    service: str
    """What the sentinels call the primary."""
    shown: str
    """The URL without its passwords."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of a connection as redis-py takes them; username, password and db are among them."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The user and password of the sentinels."""

    def __repr__(self) -> str:
        return f"<ServerUrl {self.shown}>"

    @property
    def unverified(self) -> str:
        """The check of the server's certificate that is switched off; empty if none is, or without TLS."""
        if self.secure and self.options.get("ssl_cert_reqs") == "none":
            return "ssl_cert_reqs=none: anything on the network path can pose as the server, with any certificate"
        if self.secure and not self.options.get("ssl_check_hostname"):
            return "ssl_check_hostname=false: the owner of any certificate of that CA can pose as the server"
        return ""

    def at(self, host: str, port: int) -> Self:
        """The same for one server at this place."""
        name = f"[{host}]" if ":" in host else host
        scheme = "rediss" if self.secure else "redis"
        return replace(self, kind="server", hosts=((host, port),), shown=f"{scheme}://{name}:{port}")


def parse_url(url: str, options: Mapping[str, Any] | None = None) -> ServerUrl:
    """Read a URL, and check it with the options that `redis_options` adds.

    Raises:
        InvalidConfigError: something is wrong with it or with them; the message shows no password.
    """
    if not isinstance(url, str):
        raise InvalidConfigError(f"redis_url is of type {type(url).__qualname__}; use {URL_FORMS}", field="redis_url")
    parsed = _read(url, options)
    if isinstance(parsed, InvalidConfigError):
        raise parsed  # not in an except: the errors behind it may show what it leaves out
    return replace(parsed, options=_with_verification(parsed.options)) if parsed.secure else parsed


def _with_verification(options: Mapping[str, Any]) -> dict[str, Any]:
    """The TLS options for redis-py, set explicitly: its defaults have changed between versions."""
    found = {"ssl_cert_reqs": "required", **options}
    found.setdefault("ssl_check_hostname", found["ssl_cert_reqs"] != "none")
    if "ssl_certfile" in found:
        found.setdefault("ssl_keyfile", found["ssl_certfile"])  # before 7.1 it leaves out a file that has both
    return found


def _read(url: str, options: Mapping[str, Any] | None) -> ServerUrl | InvalidConfigError:
    """Parse the URL together with the options, or refuse it with the reason."""
    try:
        parsed = _parse(url)
        _check_together(parsed.kind, parsed.options)
    except _WrongUrlError as error:
        return _refusal(url, f"{error}. Use {URL_FORMS}")
    except WrongOptionError as error:
        return _refusal(url, str(error))
    if not options:
        return parsed
    try:
        parsed = _with_options(parsed, options, in_url=False)
        _check_together(parsed.kind, parsed.options)
    except WrongOptionError as error:
        return InvalidConfigError(f"redis_options: {error}", field="redis_options")
    return parsed


def _refusal(url: str, why: str) -> InvalidConfigError:
    tail = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[1:]
    if tail and "@" in tail[0]:
        why = f"{_AMBIGUOUS}. Use {URL_FORMS}"  # what was read as something else may be a part of a password
    return InvalidConfigError(f"redis_url {without_password(url)!r} is not usable: {why}", field="redis_url")


def _parse(url: str) -> ServerUrl:
    if "://" not in url:
        raise _WrongUrlError("it has no scheme")
    parts = split_url(url)
    if parts.scheme not in SCHEMES:
        raise _WrongUrlError("its scheme is not known")
    if not url.isprintable() or url != url.strip():
        raise _WrongUrlError("it has a control character, or a space at an end; percent-encode it")
    if parts.fragment:
        raise _WrongUrlError("it has a `#`, which is written %23")
    kind, secure = SCHEMES[parts.scheme]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    given: dict[str, Any] = dict(pairs)
    if len(given) < len(pairs):
        raise WrongOptionError("an option is given twice")
    user, _, password = parts.credentials.partition(":")
    for name, value in (("username", unquote(user)), ("password", unquote(password))):
        if value and given.setdefault(name, value) != value:
            raise WrongOptionError(f"the {name} is given twice, before the @ and as an option")
    path, service, db = _read_path(kind, parts)
    if db and given.setdefault("db", db) != db:
        raise WrongOptionError("the number of the database is given twice, in the path and as an option")
    hosts = () if kind in ("unix", "embedded") else _read_hosts(kind, parts.hosts)
    return _with_options(ServerUrl(kind, secure, hosts, path, service, without_password(url)), given, in_url=True)


def _traits(kind: Kind, secure: bool) -> frozenset[Need]:
    traits: dict[Need, bool] = {
        "tcp": kind not in ("unix", "embedded"),
        "tls": secure,
        "sentinel": kind == "sentinel",
        "users": kind != "embedded",
    }
    return frozenset(name for name, there in traits.items() if there)


def _with_options(parsed: ServerUrl, given: Mapping[str, Any], *, in_url: bool) -> ServerUrl:
    """The URL with further options, which are checked here."""
    twice = given.keys() & {*parsed.options, *(f"sentinel_{name}" for name in parsed.sentinel_options)}
    if twice:
        raise WrongOptionError(f"{min(twice)} stands in redis_url as well; give it once")
    read = read_options(given, _traits(parsed.kind, parsed.secure), in_url=in_url)
    own = {name: value for name, value in read.items() if not name.startswith("sentinel_")}
    theirs = {name.removeprefix("sentinel_"): value for name, value in read.items() if name not in own}
    return replace(parsed, options={**parsed.options, **own}, sentinel_options={**parsed.sentinel_options, **theirs})


def _check_together(kind: Kind, options: Mapping[str, Any]) -> None:
    if kind == "cluster" and options.get("db"):
        raise WrongOptionError("a cluster has only the database 0")
    if "credential_provider" in options and ("username" in options or "password" in options):
        raise WrongOptionError("credential_provider and a username or password exclude each other")
    if options.get("ssl_cert_reqs") == "none" and options.get("ssl_check_hostname"):
        raise WrongOptionError("ssl_check_hostname is true, and with ssl_cert_reqs=none no certificate is checked")


def _read_path(kind: Kind, parts: UrlParts) -> tuple[str, str, str]:
    """The path of a socket or folder, the sentinels' service, and the text of the database's number."""
    if kind in ("unix", "embedded"):
        path = unquote(parts.path)
        if parts.hosts:
            raise _WrongUrlError("its path must begin with a third slash, as in unix:///run/redis.sock")
        if not path.strip("/") and (kind == "unix" or path):
            raise _WrongUrlError("it names no path")
        if "\0" in path:
            raise _WrongUrlError("its path has a null byte")
        if kind == "unix" and len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise _WrongUrlError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
        return path, "", ""
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    service = unquote(names.pop(0)) if kind == "sentinel" and names else ""
    if kind == "sentinel" and not service:
        raise _WrongUrlError("it does not name the service, as in redis+sentinel://host:26379,host:26379/service/db")
    if len(names) > 1 or not all(name.isascii() and name.isdigit() for name in names):
        raise _WrongUrlError("the database after the `/` must be a number")
    return "", service, names[0] if names else ""


def _read_hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    names = text.split(",")
    if kind == "server":
        if len(names) > 1:
            raise _WrongUrlError("it names several hosts, which is for redis+sentinel:// and redis+cluster://")
        return (_read_host(names[0] if text.partition(":")[0] else f"localhost{text}", PORTS[kind]),)
    if not all(names):
        raise _WrongUrlError("a host is missing; write host:port,host:port")
    return tuple(_read_host(name, PORTS[kind]) for name in names)


def _read_host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([0-9]{0,5}))?", text)
    if found is None:
        several = text.count(":") > 1 and not text.startswith("[")
        hint = "an IPv6 address stands in brackets: [::1]" if several else "its port is not a number"
        raise _WrongUrlError(f"{hint}, or a host is written wrongly")
    address, name, number = found.groups()
    host = unquote(address if address is not None else name)
    if address is not None:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _WrongUrlError("what stands in brackets is not an IPv6 address") from None
    elif not _is_name(host):
        raise _WrongUrlError("a host is missing, or is written as no host is")
    if number and not 1 <= int(number) <= 65535:
        raise _WrongUrlError("its port must be from 1 to 65535")
    return host, int(number) if number else port


def _is_name(host: str) -> bool:
    if not all(character.isalnum() or character in "-._" for character in host):
        return False
    try:
        labels = host.encode("ascii" if host.isascii() else "idna").removesuffix(b".").split(b".")
    except UnicodeError:
        return False
    return len(host) <= 253 and all(0 < len(label) <= 63 for label in labels)

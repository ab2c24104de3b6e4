"""The parts of a server's URL as they are written, and what of them is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from redsched.logs.redaction import HIDDEN
from redsched.store.connection_options import shown_option

__all__ = ["SCHEMES", "Kind", "UrlParts", "kind_of", "split_url", "without_password"]

Kind = Literal["server", "unix", "embedded", "sentinel", "cluster"]

SCHEMES: Final[Mapping[str, tuple[Kind, bool]]] = {
    "unix": ("unix", False),
    "embedded": ("embedded", False),
    **{
        name + suffix: (kind, secure)
        for name, secure in (("redis", False), ("rediss", True), ("valkey", False), ("valkeys", True))
        for suffix, kind in (("", "server"), ("+sentinel", "sentinel"), ("+cluster", "cluster"))
    },
}  # pyright: ignore[reportAssignmentType]  the kinds in the tuple are literals


@dataclass(frozen=True, slots=True)
class UrlParts:
    """The texts that a URL is made of, as they are written."""

    scheme: str
    credentials: str
    """What stands before the last @ of the authority."""
    hosts: str
    path: str
    query: str
    fragment: str
    """With its `#`."""

    def __str__(self) -> str:
        at = "@" if self.credentials else ""
        mark = "?" if self.query else ""
        return f"{self.scheme}://{self.credentials}{at}{self.hosts}{self.path}{mark}{self.query}{self.fragment}"


def split_url(url: str) -> UrlParts:
    """The texts of a URL. Nothing is decoded."""
    scheme, _, rest = url.partition("://")
    rest, mark, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    return UrlParts(scheme.lower(), credentials, hosts, slash + path, query, mark + fragment)


def kind_of(url: str) -> Kind | None:
    """The kind of server of a URL, by its scheme; None if the scheme is not known."""
    scheme, separator, _ = url.partition("://")
    known = SCHEMES.get(scheme.lower())
    return known[0] if separator and known is not None else None


def without_password(url: str) -> str:
    """The URL as it may stand in a message or a log, however broken it is: of each part, what is known to be no secret.

    The one place that makes URLs to be shown.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,30}", scheme):
        return url if re.fullmatch(r"localhost(:[0-9]{1,5})?|[a-z.-]{1,60}:[0-9]{1,5}", url) else HIDDEN
    before, at, after = rest.rpartition("@")
    if at and re.search("[/?#]", before):
        return f"{scheme}://{HIDDEN}"  # it is not known where the password ends
    parts = split_url(f"{scheme}://{after}")
    known = SCHEMES.get(parts.scheme)
    hosts = ",".join(_shown_host(host) for host in parts.hosts.split(","))
    query = "&".join(shown_option(*part.partition("=")[::2]) for part in parts.query.split("&")) if parts.query else ""
    mark = "?" if query else ""
    misplaced = parts.hosts and known is not None and known[0] in ("unix", "embedded")
    path = _shown_path(None if known is None or misplaced else known[0], parts.path)
    return f"{scheme}://{f'{HIDDEN}@' if at else ''}{hosts}{path}{mark}{query}{f'#{HIDDEN}' if parts.fragment else ''}"


def _shown_host(text: str) -> str:
    if re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]*\]|[\w.-]*)(:[0-9]{0,5})?", text):
        return text
    name, colon, _ = text.partition(":")  # what should be a port may be a password without its @
    return f"{name}:{HIDDEN}" if colon and re.fullmatch(r"[\w.-]*", name) else HIDDEN


def _shown_path(kind: Kind | None, path: str) -> str:
    if kind in ("unix", "embedded"):
        file = re.split("[;&=@]", path)[0]  # as of `/folder&password=…`
        return path if file == path else file + HIDDEN
    first = r"[\w.-]{1,100}" if kind == "sentinel" else r"[0-9]{0,10}"
    known = kind is not None and re.fullmatch(rf"(/{first}(/[0-9]{{0,10}})*)?/?", path)
    return path if known or not path else f"/{HIDDEN}"

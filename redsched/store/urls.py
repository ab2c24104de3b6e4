"""URLs that name several hosts."""

from __future__ import annotations

from urllib.parse import urlsplit

from redsched.errors import InvalidConfigError
from redsched.store.link import without_password

__all__ = ["hosts_of"]


def hosts_of(url: str, port: int) -> list[tuple[str, int]]:
    """The hosts and ports of a URL such as `redis+cluster://user:password@a:7000,b,[::1]:7001`.

    Args:
        url: it.
        port: of the hosts that name none.

    Raises:
        InvalidConfigError: there is none, or one is no host and port.
    """
    found: list[tuple[str, int]] = []
    for text in urlsplit(url).netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{text}")
            if not one.hostname:
                raise ValueError("a host is missing")
            found.append((one.hostname, one.port or port))
        except ValueError as error:
            raise InvalidConfigError(
                f"redis_url {without_password(url)!r} is not usable: {error} in {text!r}. "
                "Write its hosts as host:port,host:port.",
                field="redis_url",
            ) from None
    return found

"""URLs and options of connections: each works or is refused by name, and no message shows a password."""

from __future__ import annotations

import asyncio
import re
import ssl
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import CredentialProvider
from redis.asyncio.connection import SSLConnection

from redsched import BackgroundTaskScheduler, InvalidConfigError, RedschedError, StoreError, StoreUnavailableError
from redsched.store.connection_options import FIXED, OPTIONS, SET_HERE
from redsched.store.link import Link
from redsched.store.sentinel import SentinelLink
from redsched.store.store import Store
from redsched.store.urls import URL_FORMS, parse_url, without_password
from redsched.testing import fresh_prefix
from tests.servers import ROOT, LocalServer

ONE_OF_EACH = {
    "redis": "redis://localhost",
    "rediss": "rediss://localhost",
    "unix": "unix:///run/redis.sock",
    "embedded": "embedded:///srv/data",
    "sentinel": "redis+sentinel://a,b/service",
    "sentinel with TLS": "rediss+sentinel://a,b/service",
    "cluster": "redis+cluster://a,b",
    "cluster with TLS": "rediss+cluster://a,b",
}
VALUES: dict[str, Any] = {
    "username": "ann", "password": "pw", "db": 0, "client_name": "shop", "socket_timeout": 5.5,
    "socket_connect_timeout": 1, "socket_read_size": 4096, "socket_keepalive": True, "ssl_ca_certs": "/ca.pem",
    "ssl_ca_path": "/cas", "ssl_ca_data": "PEM", "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem",
    "ssl_password": "pw", "ssl_cert_reqs": "required", "ssl_check_hostname": False, "ssl_min_version": "1.3",
    "ssl_ciphers": "ECDHE+AESGCM", "ssl_include_verify_flags": "VERIFY_X509_STRICT",
    "ssl_exclude_verify_flags": "VERIFY_X509_STRICT", "sentinel_username": "bob", "sentinel_password": "pw",
    "socket_keepalive_options": {1: 2}, "credential_provider": CredentialProvider(),
}  # fmt: skip


def with_option(url: str, name: str, value: Any) -> str:
    return f"{url}?{name}={quote(str(value), safe='')}"


# -- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts", "options"),
    [
        ("redis://", [("localhost", 6379)], {}),
        ("redis://:7000", [("localhost", 7000)], {}),
        ("REDIS://Host/3", [("Host", 6379)], {"db": 3}),
        ("redis://host:7000/3/", [("host", 7000)], {"db": 3}),
        ("redis://host?db=3", [("host", 6379)], {"db": 3}),
        ("redis://host/3?db=3", [("host", 6379)], {"db": 3}),
        ("redis://[::1]:7000", [("::1", 7000)], {}),
        ("redis://[fe80::1%25eth0]", [("fe80::1%eth0", 6379)], {}),
        ("redis://ann:p%40s%2Fs%3A%23@host", [("host", 6379)], {"username": "ann", "password": "p@s/s:#"}),
        ("redis://:a:b@host", [("host", 6379)], {"password": "a:b"}),
        ("redis://a@b:c@host", [("host", 6379)], {"username": "a@b", "password": "c"}),
        ("redis://:@host", [("host", 6379)], {}),
        ("redis://host?password=a+b%2Bc", [("host", 6379)], {"password": "a b+c"}),
        ("redis://host?protocol=2&decode_responses=false", [("host", 6379)], {}),
        ("valkey://host", [("host", 6379)], {}),
        ("valkey+cluster://a,b:1", [("a", 6379), ("b", 1)], {}),
        ("redis+sentinel://[::1],b:1/jobs/2", [("::1", 26379), ("b", 1)], {"db": 2}),
    ],
)
def test_each_part_of_a_url_is_read(url: str, hosts: list[Any], options: dict[str, Any]) -> None:
    parsed = parse_url(url)
    assert (list(parsed.hosts), dict(parsed.options)) == (hosts, options)


@pytest.mark.parametrize("url", ["unix:///run/my redis.sock", "unix:///run/my%20redis.sock"])
def test_a_socket_may_have_a_space_in_its_path(url: str) -> None:
    assert parse_url(url).path == "/run/my redis.sock"


@pytest.mark.parametrize("name", [*OPTIONS])
@pytest.mark.parametrize("kind", [*ONE_OF_EACH])
def test_each_option_works_or_is_refused_by_name_with_each_kind_of_url(kind: str, name: str) -> None:
    url, option, value = ONE_OF_EACH[kind], OPTIONS[name], VALUES[name]
    secure = url.startswith("rediss")
    has = {
        "": True,
        "tls": secure,
        "tcp": kind not in ("unix", "embedded"),
        "users": kind != "embedded",
        "sentinel": "sentinel" in kind,
    }[option.needs]
    ways: list[tuple[str, dict[str, Any] | None]] = [(url, {name: value})]
    if option.in_url:
        ways.append((with_option(url, name, value), None))
    for place, options in ways:
        if has:
            if name.startswith("ssl_") and name not in signature(SSLConnection.__init__).parameters:
                with pytest.raises(InvalidConfigError, match=f"{name} needs a newer redis-py"):
                    Store(place.replace("+cluster://a,b", "://a"), "p", options=options)
                continue
            parsed = parse_url(place, options)
            kept = {**parsed.options, **{f"sentinel_{key}": part for key, part in parsed.sentinel_options.items()}}
            assert kept[name] == option.check(value)
            if kind != "embedded":
                BackgroundTaskScheduler(place, redis_options=options)
        else:
            with pytest.raises(InvalidConfigError, match=f"the option {name} needs"):
                BackgroundTaskScheduler(place, redis_options=options)


@pytest.mark.parametrize("name", ["socket_keepalive_options", "credential_provider"])
def test_an_option_that_is_an_object_is_none_of_a_url(name: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"'{name}' is not an option"):
        parse_url(f"redis://h?{name}=x")


async def test_a_socket_with_a_space_and_a_password_with_everything_are_used(tmp_path: Path) -> None:
    path, password = tmp_path / "my redis.sock", "a/b?c#d@e%f g:h"
    with LocalServer("--unixsocket", str(path), "--requirepass", password) as server:
        coded = quote(password, safe="")
        for url in (
            f"unix://:{coded}@{path}?db=1", f"redis://:{coded}@127.0.0.1:{server.port}/1", f"unix://{path}?password={coded}&db=1",
        ):  # fmt: skip
            link = Link(url + ("&" if "?" in url else "?") + "client_name=surface&socket_timeout=3")
            told = (await link.command("CLIENT", "INFO")).decode()
            assert " name=surface " in told
            assert " db=1 " in told
            await link.close()


async def test_credentials_may_come_from_a_provider() -> None:
    class Provider(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            return ("default", "pw")

    with LocalServer("--requirepass", "pw") as server:
        link = Link(server.url, {"credential_provider": Provider()})
        assert await link.command("PING") == b"PONG"
        await link.close()


async def test_an_embedded_server_has_its_databases(tmp_path: Path) -> None:
    scheduler = BackgroundTaskScheduler(f"embedded://{tmp_path}/data?db=2", fresh_prefix())
    store = await scheduler.store()
    assert b" db=2 " in await store.link.command("CLIENT", "INFO")
    await scheduler.shutdown()


# -- what does not ----------------------------------------------------------------------------------------------------

WRONG_VALUES = [
    ("db", "x"),
    ("db", "-1"),
    ("db", "1.5"),
    ("db", ""),
    ("db", "²"),
    ("db", "99999999999"),
    ("socket_timeout", "0"),
    ("socket_timeout", "-1"),
    ("socket_timeout", "nan"),
    ("socket_timeout", "inf"),
    ("socket_timeout", "soon"),
    ("socket_timeout", "1e400"),
    ("socket_connect_timeout", "none"),
    ("socket_read_size", "0"),
    ("socket_keepalive", "perhaps"),
    ("client_name", "my shop"),
    ("client_name", ""),
    ("ssl_cert_reqs", "maybe"),
    ("ssl_min_version", "1.1"),
    ("ssl_check_hostname", ""),
    ("ssl_exclude_verify_flags", "STRICT"),
    ("ssl_ca_certs", ""),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(name: str, value: str) -> None:
    for url, options in ((with_option("rediss://h", name, value), None), ("rediss://h", {name: value})):
        with pytest.raises(InvalidConfigError, match=f"{name} is .*must be"):
            BackgroundTaskScheduler(url, redis_options=options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("socket_timeout", None),
        ("socket_timeout", True),
        ("socket_timeout", 0),
        ("socket_timeout", float("nan")),
        ("socket_timeout", [1]),
        ("socket_timeout", 10**400),
        ("db", True),
        ("db", 1.0),
        ("db", None),
        ("username", 5),
        ("username", "\ud800"),
        ("client_name", b"x"),
        ("ssl_ca_certs", 5),
        ("ssl_ca_certs", "a\0b"),
        ("ssl_cert_reqs", 7),
        ("ssl_check_hostname", None),
        ("ssl_include_verify_flags", []),
        ("ssl_include_verify_flags", 5),
        ("credential_provider", "me"),
        ("socket_keepalive_options", {"a": 1}),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_its_option(name: str, value: Any) -> None:
    with pytest.raises(InvalidConfigError, match=f"redis_options: {name}.* must be") as raised:
        BackgroundTaskScheduler("rediss://h", redis_options={name: value})
    assert raised.value.field == "redis_options"


@pytest.mark.parametrize("name", [*SET_HERE])
def test_what_redsched_sets_itself_is_refused_with_what_takes_its_place(name: str) -> None:
    for url, options in ((f"redis://h?{name}=1", None), ("redis://h", {name: 1})):
        with pytest.raises(InvalidConfigError, match=f"the option {name} is not supported: "):
            BackgroundTaskScheduler(url, redis_options=options)


@pytest.mark.parametrize(("name", "value"), [("protocol", "3"), ("decode_responses", "true"), ("protocol", "x")])
@pytest.mark.parametrize("kind", [*ONE_OF_EACH])
def test_what_has_one_right_value_is_refused_with_another(kind: str, name: str, value: str) -> None:
    for url, options in ((with_option(ONE_OF_EACH[kind], name, value), None), (ONE_OF_EACH[kind], {name: value})):
        with pytest.raises(InvalidConfigError, match=f"{name} is '{value}'; it must be {FIXED[name][0]}"):
            BackgroundTaskScheduler(url, redis_options=options)


def test_an_unknown_option_is_refused_with_the_list_of_those_that_there_are() -> None:
    for url, options in (("redis://h?socket_timeot=5", None), ("redis://h", {"socket_timeot": 5})):
        with pytest.raises(InvalidConfigError, match="did you mean socket_timeout") as raised:
            BackgroundTaskScheduler(url, redis_options=options)
        assert all(name in str(raised.value) for name, option in OPTIONS.items() if option.in_url or options)


@pytest.mark.parametrize("url", ["http://localhost:6379", "localhost:6379", "sentinel://a/b", "", "redis:/h", "://h"])
def test_a_scheme_that_is_unknown_is_refused_with_the_one_list(url: str) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        BackgroundTaskScheduler(url)
    assert URL_FORMS in str(raised.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://host/abc", "must be a number"),
        ("redis://host/1/2", "must be a number"),
        ("redis://host/-1", "number"),
        ("redis://host/1?db=2", "twice"),
        ("redis://host?db=1&db=1", "twice"),
        ("redis://ann@host?username=bob", "twice"),
        ("redis://host:0", "from 1 to 65535"),
        ("redis://host:65536", "from 1 to 65535"),
        ("redis://host:x", "port"),
        ("redis://a,b", "several hosts"),
        ("redis://::1", "in brackets"),
        ("redis://[::g]", "IPv6"),
        ("redis://[::1", "written wrongly"),
        ("redis://a b", "host"),
        ("redis://a..b", "host"),
        (f"redis://{'a' * 64}", "host"),
        ("redis://ho%00st", "host"),
        ("redis://host#1", "%23"),
        ("redis://host\n", "control"),
        (" redis://host", "scheme"),
        ("redis://host ", "space"),
        ("unix://run/redis.sock", "third slash"),
        ("unix://", "no path"),
        (f"unix:///{'a' * 120}", "107 bytes"),
        ("unix:///a%00b", "null byte"),
        ("embedded://folder", "third slash"),
        ("redis+sentinel://a", "service"),
        ("redis+sentinel://a/s/x", "number"),
        ("redis+sentinel://,a/s", "missing"),
        ("redis+cluster://a/1", "only the database 0"),
        ("redis+cluster://a?db=1", "only the database 0"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "no certificate is checked"),
    ],
)
def test_a_broken_url_is_refused_with_what_is_wrong(url: str, why: str) -> None:
    with pytest.raises(InvalidConfigError, match=why) as raised:
        BackgroundTaskScheduler(url)
    assert raised.value.field == "redis_url"


def test_an_option_stands_in_one_place_only() -> None:
    with pytest.raises(InvalidConfigError, match="username stands in redis_url as well"):
        BackgroundTaskScheduler("redis://ann:pw@h", redis_options={"username": "bob"})
    with pytest.raises(InvalidConfigError, match="exclude each other"):
        BackgroundTaskScheduler("redis://:pw@h", redis_options={"credential_provider": CredentialProvider()})
    with pytest.raises(InvalidConfigError, match="only the database 0"):
        BackgroundTaskScheduler("redis+cluster://h", redis_options={"db": 1})


@pytest.mark.parametrize("url", ["rediss://h", "rediss+sentinel://a,b/s", "rediss+cluster://a,b", "valkeys://h"])
def test_a_certificate_and_its_host_are_checked_unless_the_url_says_otherwise(url: str) -> None:
    def verification(options: dict[str, Any] | None = None, query: str = "") -> tuple[Any, ...]:
        parsed = parse_url(url + query, options)
        return parsed.options["ssl_cert_reqs"], parsed.options["ssl_check_hostname"], bool(parsed.unverified)

    assert verification() == ("required", True, False)
    assert verification({"ssl_cert_reqs": "optional"}) == ("optional", True, False)
    assert verification({"ssl_cert_reqs": ssl.CERT_NONE}) == ("none", False, True)
    assert verification(query="?ssl_cert_reqs=CERT_NONE") == ("none", False, True)
    assert verification(query="?ssl_check_hostname=false") == ("required", False, True)
    assert parse_url(url, {"ssl_certfile": "/both.pem"}).options["ssl_keyfile"] == "/both.pem"


async def test_redis_py_is_told_what_to_check_in_every_connection() -> None:
    for url in ("rediss://h", "rediss+sentinel://a,b/s"):
        kwargs = Store(url, "p").link._pool.connection_kwargs  # type: ignore[union-attr]
        assert (kwargs["ssl_cert_reqs"], kwargs["ssl_check_hostname"]) == ("required", True)
    sentinel = SentinelLink(parse_url("rediss+sentinel://a,b/s"))._sentinel_settings
    assert (sentinel["ssl"], sentinel["ssl_cert_reqs"], sentinel["ssl_check_hostname"]) == (True, "required", True)
    node = parse_url("rediss+cluster://a,b").at("a", 1)
    assert (node.options["ssl_cert_reqs"], node.options["ssl_check_hostname"]) == ("required", True)


def test_the_redis_py_in_use_is_in_the_range_that_is_allowed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'"redis\[hiredis\]>=(\d+)\.(\d+),<(\d+)"', text)
    assert found, "the range of redis-py has a lower and an upper bound"
    low, minor, high = map(int, found.groups())
    own = tuple(int(part) for part in redis.__version__.split(".")[:2])
    assert (low, minor) <= own < (high, 0)


# -- passwords --------------------------------------------------------------------------------------------------------

PASSWORD = st.text(st.characters(codec="utf-8"), min_size=6, max_size=12).map(lambda text: f"s3cret{text}s3cret")
PIECES = st.sampled_from(
    [
        "redis://",
        "rediss://",
        "unix://",
        "embedded://",
        "redis+sentinel://",
        "redis+cluster://",
        "http://",
        ":",
        "@",
        "/",
        "?",
        "#",
        ",",
        "[",
        "]",
        "[::1]",
        "::",
        "%",
        "%00",
        "%zz",
        "&",
        "=",
        " ",
        "db=",
        "password=",
        "username=",
        "localhost",
        "6379",
        "socket_timeout=",
        "ssl_ca_certs=",
        "protocol=",
        "0",
        "3",
        "ann",
        "\n",
        "é",
        "..",
        "-1",
        "nan",
        "true",
    ]
)


@settings(deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).map("".join))
def test_any_text_is_read_or_refused_as_a_url(text: str) -> None:
    try:
        shown = parse_url(text).shown
    except InvalidConfigError as error:
        shown = str(error)
    assert isinstance(shown, str)


@settings(deadline=None)
@given(
    PASSWORD,
    st.sampled_from(["redis", "rediss", "unix", "embedded", "redis+sentinel", "redis+cluster", "http"]),
    st.sampled_from(["host", "host:1,b", "", "[::1]:3", "host:x", "/p/q", "host/s", "host?db=x", "h?nonsense=1"]),
)
def test_no_password_is_shown_however_a_url_is_broken(password: str, scheme: str, rest: str) -> None:
    for url in (
        f"{scheme}://ann:{password}@{rest}",  # not encoded
        f"{scheme}://:{quote(password, safe='')}@{rest}",
        f"{scheme}://{rest}{'&' if '?' in rest else '?'}password={quote(password, safe='')}",
        f"{scheme}://{rest}{'&' if '?' in rest else '?'}passwd={quote(password, safe='')}",
    ):
        told = [without_password(url)]
        try:
            parsed = parse_url(url)
            told += [repr(parsed), parsed.shown]
        except InvalidConfigError as error:
            told += [str(error), repr(error)]
        for text in told:
            assert "s3cret" not in text


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*OPTIONS, *SET_HERE, *FIXED, "nonsense", ""]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text())),
    )
)
def test_any_options_are_taken_or_refused(options: dict[str, Any]) -> None:
    for url in ONE_OF_EACH.values():
        try:
            parse_url(url, options)
        except InvalidConfigError:
            continue


@pytest.mark.parametrize("kind", ["redis", "unix", "sentinel", "cluster"])
async def test_what_is_taken_and_leads_nowhere_is_unavailable(kind: str, tmp_path: Path) -> None:
    url = {
        "redis": "redis://127.0.0.1:1",
        "unix": f"unix://{tmp_path}/none.sock",
        "sentinel": "redis+sentinel://127.0.0.1:1/s",
        "cluster": "redis+cluster://127.0.0.1:1",
    }[kind]
    scheduler = BackgroundTaskScheduler(url, retry_for=0, redis_options={"client_name": "x"})
    with pytest.raises(StoreUnavailableError):
        await scheduler.get_jobs()
    await scheduler.shutdown()


async def test_a_database_that_the_server_has_not_is_told() -> None:
    with LocalServer("--databases", "2") as server:
        link = Link(f"{server.url}/7")
        with pytest.raises(RedschedError, match=r"(?i)db|database"):
            await link.command("PING")
        await link.close()


async def test_a_server_that_does_not_speak_redis_is_told_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        link = Link(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(StoreError, match="it is not a Redis"):
            await link.command("PING")
        await link.close()

"""A secret is in no message, `repr` or log, wherever it was put: into any part of a URL, or the wrong setting."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched import (
    BackgroundTaskScheduler,
    InvalidInputError,
    PayloadSecurity,
    RedisJobStoreConfig,
    SchedulerConfig,
)
from redsched.logs.redaction import without_credentials
from redsched.store.urls import parse_url, without_password
from redsched.testing.fleet import Fleet
from tests.security.test_secrets import command_line
from tests.servers import LocalServer

SECRET = "s3cret-Of=the;Fleet"
MARK = "s3cret"
SCHEMES = [
    "redis",
    "rediss",
    "unix",
    "embedded",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "valkey",
    "http",
]


def chain(error: BaseException | None) -> list[str]:
    """What an error and those behind it say, as a report of errors has them."""
    if error is None:
        return []
    return [str(error), repr(error), repr(vars(error)), *chain(error.__cause__), *chain(error.__context__)]


def told(do: Callable[[], Any]) -> str:
    """All that is shown by what a call makes, or raises."""
    try:
        return repr(do())
    except InvalidInputError as error:
        return "\n".join(chain(error))


# -- URLs -------------------------------------------------------------------------------------------------------------

WHERE = [
    "{scheme}://u:{secret}@h",
    "{scheme}://:{secret}@h:6379/0",
    "{scheme}://u:{secret}@/x",
    "{scheme}://u:{secret}",
    "{scheme}://:{secret}",
    "{scheme}://h:{secret}",
    "{scheme}://h:{secret}/0",
    "{scheme}://h,u:{secret}",
    "{scheme}:///x?password={secret}",
    "{scheme}://h?password={secret}",
    "{scheme}://h/0?PassWord={secret}",
    "{scheme}://h?db=1&auth={secret}",
    "{scheme}://h?username={secret}",
    "{scheme}://h?user={secret}&db=1",
    "{scheme}://h?ssl_password={secret}",
    "{scheme}://h?ssl_keyfile={secret}",
    "{scheme}://h?ssl_ca_data={secret}",
    "{scheme}://h?sentinel_password={secret}",
    "{scheme}://h?sentinel_username={secret}",
    "{scheme}://h?{secret}",
    "{scheme}://h?{secret}=1",
    "{scheme}://h?db={secret}",
    "{scheme}://h?protocol={secret}",
    "{scheme}://h?host={secret}",
    "{scheme}://h?decode_responses={secret}",
    "{scheme}://h?max_connections={secret}",
    "{scheme}://h?client_name= {secret}",
    "{scheme}://h?db=1;password={secret}",
    "{scheme}://h;password={secret}",
    "{scheme}://h&password={secret}",
    "{scheme}://h%3Fpassword={secret}",
    "{scheme}://h#{secret}",
    "{scheme}://h/{secret}/x",
    "{scheme}://h/s/{secret}",
    "{scheme}:///x&password={secret}",
    "{scheme}:///x;password={secret}",
    "{scheme}:u:{secret}@h",
    "{scheme}:/u:{secret}@h",
    "{scheme}//u:{secret}@h",
    "{scheme}//:{secret}",
    "{secret}",
    "u:{secret}@h",
    "u:{secret}@{scheme}://h",
    "{scheme}://u:{secret}@h?x=y@z",
    "{scheme}://h?password={secret}@{secret}",
    "{scheme}://u:{secret}@a@b",
    "{scheme}://u:p/{secret}@h",
    "{scheme}://u:p?{secret}@h",
    "{scheme}://u:p#{secret}@h",
    "{scheme}://u:p#{secret}",
    "{scheme}://[::1]:{secret}",
    "{scheme}://[{secret}]",
    "{scheme}://u:{secret}%40h:6379",
    " {scheme}://u:{secret}@h",
    "{scheme}://u:{secret}@h\n",
    "{scheme}://h?username=a&username={secret}",
    "{scheme}://u:{secret}@h?password=x",
]


@pytest.mark.parametrize("form", WHERE)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_form_of_a_url_shows_a_secret(form: str, scheme: str) -> None:
    for secret in (SECRET, quote(SECRET, safe="")):
        url = form.format(scheme=scheme, secret=secret)
        shown = (
            without_password(url) + told(lambda url=url: parse_url(url)) + told(lambda url=url: parse_url(url).shown)
        )
        assert MARK not in shown, shown


# Letters beside other characters: a word of letters alone may be a host's name, or the path of a file.
PASSWORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(lambda text: f"{MARK}={text};{MARK}")


@settings(deadline=None, max_examples=300)
@given(
    PASSWORDS,
    st.sampled_from(WHERE),
    st.sampled_from(SCHEMES),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from([*"@:/?#&=;%[], \n\0", "://", "%40"])), max_size=3),
)
def test_no_url_that_is_broken_anywhere_shows_a_secret(
    password: str, form: str, scheme: str, quoted: bool, breaks: list[tuple[int, str]]
) -> None:
    """Characters with a meaning are put in anywhere but into the mark itself."""
    url = form.format(scheme=scheme, secret=quote(password, safe="") if quoted else password)
    for at, character in breaks:
        if MARK in url[:at] + character + url[at:] and url.count(MARK) == (url[:at] + character + url[at:]).count(MARK):
            url = url[:at] + character + url[at:]
    shown = without_password(url) + told(lambda: parse_url(url))
    if f"{MARK}/" in url or f"/{MARK}" in url or f"@{MARK}" in url or f"{MARK}@" in url:
        return  # what stands alone where a path or a host does is one, as far as anybody can tell
    assert MARK not in shown, (url, shown)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h"),
        ("redis://u:p@h:1/2?socket_timeout=3", "redis://***@h:1/2?socket_timeout=3"),
        (
            "redis+sentinel://a:1,[::1]:2/jobs/0?sentinel_password=p",
            "redis+sentinel://a:1,[::1]:2/jobs/0?sentinel_password=***",
        ),
        ("rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_keyfile=/k", "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_keyfile=***"),
        ("unix:///run/my redis.sock", "unix:///run/my redis.sock"),
        ("embedded:///var/lib/shop", "embedded:///var/lib/shop"),
        ("http://localhost:6379", "http://localhost:6379"),
        ("localhost:6379", "localhost:6379"),
        ("redis://h/abc", "redis://h/***"),
        ("redis://u:a/b@h", "redis://***"),
    ],
)
def test_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x is 'redis://u:p@h'; it must be", "x is 'redis://***@h'; it must be"),
        ("x is ['a', 'redis://u:p q@h']; before the @", "x is ['a', 'redis://***@h']; before the @"),
        (f"x is {'redis://u:a' + chr(39) + chr(34) + '@h'!r}", "x is 'redis://***@h'"),
        ('x is "redis://u:a\'b@h"', 'x is "redis://***@h"'),
        ("at redis://u:p@h: no answer from a@b", "at redis://***@h: no answer from a@b"),
        ("write to a@b, or redis://h", "write to a@b, or redis://h"),
    ],
)
def test_a_message_keeps_all_but_the_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert str(InvalidInputError(text)) == shown


# -- settings ---------------------------------------------------------------------------------------------------------

URL = f"redis://u:{SECRET}@h"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RedisJobStoreConfig(host=URL),
        lambda: RedisJobStoreConfig(host=f"h?password={SECRET}://"),
        lambda: RedisJobStoreConfig(username=SECRET, password=SECRET),
        lambda: RedisJobStoreConfig(redis_options={"ssl_password": SECRET}),
        lambda: SchedulerConfig(job_stores={"redis": RedisJobStoreConfig(host=URL)}),
        lambda: SchedulerConfig(job_stores={"a": RedisJobStoreConfig(host=URL), "b": RedisJobStoreConfig(host=URL)}),
        lambda: SchedulerConfig(job_stores={"redis": URL}),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(job_stores={URL: 5}),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(job_stores=[URL]),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(job_stores={"redis": {"password": SECRET}}),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(payload_security=SECRET),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(payload_security={"keys": [SECRET]}),  # pyright: ignore[reportArgumentType]
        lambda: SchedulerConfig(payload_security=PayloadSecurity([SECRET * 2])),
        lambda: BackgroundTaskScheduler("shop", URL),
        lambda: BackgroundTaskScheduler("redis://h", URL),
        lambda: BackgroundTaskScheduler("redis://h", [URL]),  # pyright: ignore[reportArgumentType]
        lambda: BackgroundTaskScheduler("redis://h", lock_prefix=URL + " x"),
        lambda: BackgroundTaskScheduler("redis://h", shards=URL),  # pyright: ignore[reportArgumentType]
        lambda: BackgroundTaskScheduler("redis://h", timezone=URL),
        lambda: BackgroundTaskScheduler("redis://h", queues=URL),
        lambda: BackgroundTaskScheduler("redis://h", concurrency=URL),  # pyright: ignore[reportArgumentType]
        lambda: BackgroundTaskScheduler("redis://h", payload_security=SECRET),  # pyright: ignore[reportArgumentType]
        lambda: BackgroundTaskScheduler("redis://h", redis_options=SECRET),  # pyright: ignore[reportArgumentType]
        # pyright: ignore[reportArgumentType]
        lambda: BackgroundTaskScheduler("redis://h", redis_options=[SECRET]),  # pyright: ignore[reportArgumentType]
    ],
)
def test_no_setting_shows_a_secret(make: Callable[[], Any]) -> None:
    assert MARK not in told(make)


@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), [SECRET], {SECRET: SECRET}])
@pytest.mark.parametrize(
    "name",
    [
        "password",
        "pasword",
        "username",
        "ssl_password",
        "ssl_keyfile",
        "ssl_certfile",
        "db",
        "client_name",
        SECRET,
        "credential_provider",
        "protocol",
        "socket_keepalive_options",
        "ssl_cert_reqs",
        "sentinel_password",
    ],
)
def test_no_option_shows_a_secret(name: str, value: Any) -> None:
    for url in ("redis://h", "rediss://h", "redis+sentinel://h/s", "embedded:///x"):
        made = told(lambda url=url: BackgroundTaskScheduler(url, redis_options={name: value}))
        assert MARK not in made


@pytest.mark.parametrize(
    "variables",
    [
        {"URL": URL},
        {"URL": SECRET},
        {"URL__X": SECRET},
        {"URL": "redis://h", "URL__X": SECRET},
        {"HOST": URL},
        {"PASWORD": SECRET},
        {"PORT": SECRET},
        {"DB": SECRET},
        {"CONCURRENCY": URL},
        {"DECLARED_TASKS": SECRET},
        {"JOB_STORES": URL},
        {"JOB_STORES__REDIS": URL},
        {"REDIS_OPTIONS": SECRET},
        {"REDIS_OPTIONS__DB": SECRET},
        {"REDIS_OPTIONS__PASSWORD": SECRET},
        {"PASSWORD__X": SECRET},
        {"PAYLOAD_SECURITY": SECRET},
        {"PAYLOAD_SECURITY__KEYS": SECRET},
        {"PAYLOAD_SECURITY__KEY": SECRET},
        {"PAYLOAD_SECURITY": SECRET, "PAYLOAD_SECURITY__KEYS": SECRET},
        {"PAYLOAD_SECURITY__ENCRYPT": SECRET},
        {"JOB_DEFAULTS": SECRET},
        {"PREFIX": URL},
        {"LOCK_PREFIX": URL},
        {"REDIS_OPTIONS__A": SECRET, "REDIS_OPTIONS": SECRET},
    ],
)
def test_no_environment_variable_shows_a_secret(variables: dict[str, str]) -> None:
    environment = {f"REDSCHED_{name}": value for name, value in variables.items()}
    assert MARK not in told(lambda: SchedulerConfig.from_env(environment))
    assert MARK not in told(lambda: BackgroundTaskScheduler.from_config(SchedulerConfig.from_env(environment)))


@pytest.mark.parametrize(
    "text",
    [
        '[job_stores.redis]\npassword = "{}',
        "[job_stores.redis]\npassword = {}",
        'password = "{}"',
        '"{}" = 1',
        '[job_stores.redis]\nhost = ["redis://:{}@h"]',
        '[job_stores.redis]\nhost = "redis://:{}@h"\nport = true',
        'job_stores = ["redis://:{}@h"]',
        '[job_stores]\nredis = "redis://:{}@h"',
        '[job_stores.redis.password]\nx = "{}"',
        'payload_security = ["{}"]',
        '[payload_security]\nkeys = ["{}"]',
        '[payload_security]\nkey = "{}"',
        '[payload_security]\n"{}" = 1',
        '[job_stores.redis]\nport = "{}"',
        '[job_stores.redis]\nusername = ["{}"]',
        '[job_stores.redis]\nredis_options = "password={}"',
        '[job_stores.redis]\nredis_options = {{pasword = "{}"}}',
        '[job_stores.redis]\n"redis://u:{}@h" = 1',
        '[tool]\nredsched = "redis://:{}@h"',
        'tool = "{}"',
        '[job_stores]\n"redis://:{}@h" = "x"',
        '[job_stores."redis://:{}@h"]\nport = true',
        '[job_stores.redis]\npassword = "a" "{}"',
        '[job_stores.redis]\npassword = "\\{}"',
        '[job_stores.redis]\npassword = "{}"\npassword = 5',
        "\x00{}",
    ],
)
def test_no_file_shows_a_secret(text: str, tmp_path: Path) -> None:
    file = tmp_path / "redsched.toml"
    file.write_text(text.format(SECRET))
    assert MARK not in told(lambda: SchedulerConfig.from_toml(file))
    assert MARK not in told(lambda: BackgroundTaskScheduler.from_config(SchedulerConfig.from_toml(file)))


def test_a_file_that_is_not_text_shows_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "redsched.toml"
    file.write_bytes(f'password = "{SECRET}\xff"'.encode("latin-1"))
    assert MARK not in told(lambda: SchedulerConfig.from_toml(file))


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("url", "command"),
    [
        (f"redis://u:{SECRET}@127.0.0.1:1", "jobs list"),
        (f"redis://u:{SECRET}", "doctor"),
        (f"redis://h?auth={SECRET}", "workers"),
        (f"embedded://u:{SECRET}@h", "doctor"),
        (f"redis://u:{quote(SECRET, safe='')}@127.0.0.1:1?socket_timeout=x", "jobs list"),
    ],
)
def test_no_command_shows_a_secret(url: str, command: str, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "redsched.cli", *command.split(), *options],
        env={**os.environ, "REDSCHED_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert MARK not in done.stdout + done.stderr


async def test_the_workers_of_the_demo_show_no_password_to_other_users(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with LocalServer("--requirepass", MARK) as server:
        url = f"redis://:{MARK}@127.0.0.1:{server.port}"
        (tmp_path / "ledger").touch()
        fleet = Fleet(
            "redsched.demo.worker", ["secrets", str(tmp_path / "ledger"), "0", "0.0"], url=url, log=tmp_path / "log"
        )
        starting = asyncio.create_task(fleet.start())
        await asyncio.wait({starting}, timeout=30)
        lines = [command_line(member.pid) for member in fleet.members]
        for member in fleet.members:
            member.process.kill()
            await member.process.wait()
        starting.cancel()
        await asyncio.wait({starting})
    assert lines
    assert MARK.encode() not in b"".join(lines)
    assert MARK not in caplog.text

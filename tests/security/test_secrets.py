"""TLS is checked, and passwords and keys are nowhere to be seen: not in errors, logs, reprs, nor process lists."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import logging
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from redsched import (
    BackgroundTaskScheduler,
    InvalidConfigError,
    PayloadSecurity,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
)
from tests.servers import ROOT, LocalServer, free_port, wait_until

SECRET = "s3cret/of?the#fleet"


async def note(value: Any = None) -> Any:
    return value


# -- TLS --------------------------------------------------------------------------------------------------------------


def _key_and_name(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
    return ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


_CERTIFICATE_AUTHORITY = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, by: ec.EllipticCurvePrivateKey, ca: bool
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        # What RFC 5280 demands besides: Python 3.13 and newer refuse a chain without it.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(_CERTIFICATE_AUTHORITY, critical=True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(by, hashes.SHA256())


def _pem(thing: Any) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem with a server's certificate of its own, and other-ca.pem."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other-ca"):
        key, subject = _key_and_name(name)
        ca = _certificate(subject, key, subject, key, ca=True)
        (folder / f"{name}.pem").write_bytes(_pem(ca))
        if name == "ca":
            server_key, server_name = _key_and_name("localhost")
            (folder / "server.pem").write_bytes(_pem(_certificate(server_name, server_key, subject, key, ca=False)))
            (folder / "server.key").write_bytes(_pem(server_key))
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path) -> Iterator[int]:
    port = free_port()
    options = [
        "--tls-port", str(port), "--tls-cert-file", str(certificates / "server.pem"),
        "--tls-key-file", str(certificates / "server.key"), "--tls-ca-cert-file", str(certificates / "ca.pem"),
        "--tls-auth-clients", "no",
    ]  # fmt: skip
    try:
        server = LocalServer(*options)
    except RuntimeError as error:
        pytest.skip(f"this redis-server has no TLS: {str(error)[-200:]}")
    with server:
        yield port


def test_the_certificates_pass_the_strict_check_of_newer_pythons(tls_port: int, certificates: Path) -> None:
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default; on every Python here
    with (
        socket.create_connection(("127.0.0.1", tls_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.getpeercert()


async def test_jobs_run_over_tls(tls_port: int, certificates: Path) -> None:
    options = {"ssl_ca_certs": str(certificates / "ca.pem")}
    async with BackgroundTaskScheduler(
        f"rediss://127.0.0.1:{tls_port}", "tls", declared_tasks=False, redis_options=options
    ) as scheduler:
        handle = await scheduler.schedule_immediate_task("job", note, args=["over TLS"])
        assert (await handle.result(timeout=10)).result == "over TLS"


@pytest.mark.parametrize("ca", ["other-ca.pem", None], ids=["of another CA", "of no CA that the system knows"])
async def test_a_certificate_that_is_not_trusted_is_refused(ca: str | None, tls_port: int, certificates: Path) -> None:
    options = {} if ca is None else {"ssl_ca_certs": str(certificates / ca)}
    scheduler = BackgroundTaskScheduler(
        f"rediss://:{SECRET.replace('/', '%2F').replace('?', '%3F').replace('#', '%23')}@127.0.0.1:{tls_port}", "tls",
        declared_tasks=False, retry_for=0.2, redis_options=options,
    )  # fmt: skip
    with pytest.raises(StoreUnavailableError, match=r"(?i)certificate verify failed") as caught:
        await scheduler.start()
    assert "s3cret" not in str(caught.value)
    await scheduler.shutdown()


async def test_a_port_with_tls_and_a_url_without_say_what_to_write(tls_port: int) -> None:
    scheduler = BackgroundTaskScheduler(f"redis://:s3cret@127.0.0.1:{tls_port}", retry_for=0)
    with pytest.raises(StoreUnavailableError, match="rediss://") as caught:
        await scheduler.get_jobs()
    assert "s3cret" not in str(caught.value)
    await scheduler.shutdown()


async def test_a_port_without_tls_and_a_url_with_it_say_what_to_write() -> None:
    with LocalServer() as server:
        options = {"socket_connect_timeout": 0.5}
        scheduler = BackgroundTaskScheduler(
            f"rediss://:s3cret@127.0.0.1:{server.port}", retry_for=0, redis_options=options
        )
        with pytest.raises(StoreUnavailableError, match="redis:// instead of rediss://") as caught:
            await scheduler.get_jobs()
        assert "s3cret" not in str(caught.value)
        await scheduler.shutdown()


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile"])
async def test_a_file_of_tls_that_is_missing_or_broken_is_told(name: str, tls_port: int, tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("nonsense")
    for file in ("missing.pem", "broken.pem"):
        options = {name: str(tmp_path / file)}
        scheduler = BackgroundTaskScheduler(f"rediss://127.0.0.1:{tls_port}", retry_for=0, redis_options=options)
        with pytest.raises(StoreUnavailableError, match="look at the files of the ssl_ options"):
            await scheduler.get_jobs()
        await scheduler.shutdown()


async def test_a_certificate_for_another_host_is_refused(tls_port: int, certificates: Path) -> None:
    """The server's is for localhost and 127.0.0.1; the name is another one for the same place."""
    options = {"ssl_ca_certs": str(certificates / "ca.pem")}
    url = f"rediss://127.1:{tls_port}"
    scheduler = BackgroundTaskScheduler(url, retry_for=0, redis_options=options)
    with pytest.raises(StoreUnavailableError, match="the host that the certificate names"):
        await scheduler.get_jobs()
    await scheduler.shutdown()
    options["ssl_check_hostname"] = "false"
    scheduler = BackgroundTaskScheduler(url, retry_for=0, redis_options=options)
    assert await scheduler.get_jobs() == []
    await scheduler.shutdown()


async def test_a_check_that_is_switched_off_is_warned_of_once_and_found_by_the_doctor(
    tls_port: int, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = f"ssl_ca_certs={certificates / 'ca.pem'}"
    for query, level in ((ca, "ok"), (f"{ca}&ssl_check_hostname=false", "error"), ("ssl_cert_reqs=none", "error")):
        caplog.clear()
        url = f"rediss://127.0.0.1:{tls_port}?{query}"
        BackgroundTaskScheduler(url, "tls", declared_tasks=False)
        scheduler = BackgroundTaskScheduler(url, "tls", declared_tasks=False)
        (found,) = [each for each in await scheduler.examine_server() if each.check == "tls"]
        assert found.level == level
        warned = [line for line in caplog.messages if "is not verified" in line]
        assert len(warned) == (level == "error")
        if level == "error":
            assert query.rpartition("&")[2] in warned[0]
            assert query.rpartition("&")[2] in found.message
        await scheduler.shutdown()


async def test_a_server_without_tls_gets_no_password(certificates: Path) -> None:
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    scheduler = BackgroundTaskScheduler(f"rediss://:s3cret@127.0.0.1:{port}", "tls", retry_for=0.2)
    with pytest.raises(StoreError):
        await scheduler.start()
    await scheduler.shutdown()
    server.close()
    assert heard
    assert b"s3cret" not in heard


# -- passwords --------------------------------------------------------------------------------------------------------

QUOTED = SECRET.replace("/", "%2F").replace("?", "%3F").replace("#", "%23")
URLS = [
    f"redis://user:{QUOTED}@127.0.0.1:1/0",
    f"redis://:{QUOTED}@127.0.0.1:1",
    f"redis://127.0.0.1:1?username=user&password={QUOTED}",
    f"unix://user:{QUOTED}@/nowhere/redis.sock",
    f"unix:///nowhere/redis.sock?password={QUOTED}",
    f"rediss://user:{QUOTED}@127.0.0.1:1",
]


@pytest.mark.parametrize("url", URLS)
async def test_no_error_log_or_repr_shows_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scheduler = BackgroundTaskScheduler(url, "secrets", declared_tasks=False, retry_for=0.2)
    with pytest.raises(StoreUnavailableError) as caught:
        await scheduler.start()
    worker = asyncio.create_task(scheduler.make_worker().serve())
    await asyncio.sleep(0.3)
    worker.cancel()
    await asyncio.wait({worker})
    shown = [str(caught.value), repr(caught.value), repr(scheduler), caplog.text, repr(scheduler.worker)]
    store = scheduler.client.opened
    assert store is not None
    shown += [repr(store), repr(store.link), store.link.where]
    for text in shown:
        assert "s3cret" not in text
        assert QUOTED not in text
    await scheduler.shutdown(wait=False)


@pytest.mark.parametrize(
    "url",
    [f"redis://user:{SECRET}@127.0.0.1:1", f"redis:/user:{QUOTED}@x", f"nonsense://user:{QUOTED}@127.0.0.1:1"],
)
def test_a_url_that_is_not_usable_is_told_without_its_password(url: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        BackgroundTaskScheduler(url, "secrets")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_a_wrong_password_is_not_shown() -> None:
    with LocalServer("--requirepass", "the right one") as server:
        scheduler = BackgroundTaskScheduler(f"redis://:s3cret@127.0.0.1:{server.port}", "secrets", retry_for=0.2)
        with pytest.raises(StoreAccessError) as caught:
            await scheduler.start()
        assert "s3cret" not in str(caught.value)


def test_a_fleet_of_processes_shows_no_password_to_other_users(tmp_path: Path) -> None:
    """Every user of the machine can read command lines."""
    (tmp_path / "fleet_app.py").write_text(
        "import os, redsched\nscheduler = redsched.BackgroundTaskScheduler(os.environ['REDSCHED_URL'], 'secrets')\n"
    )
    with LocalServer("--requirepass", "s3cret") as server:
        url = f"redis://:s3cret@127.0.0.1:{server.port}"
        command = [sys.executable, "-m", "redsched.cli", "worker", "fleet_app:scheduler", "--processes", "2"]
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        fleet = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "REDSCHED_URL": url, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            import redis

            with redis.Redis("127.0.0.1", server.port, password="s3cret") as admin:
                wait_until(lambda: admin.zcard("{secrets:0}:workers") == 2, 20, "two workers are there")
            lines = {pid: command_line(pid) for pid in family(fleet.pid)}
            assert len(lines) >= 3
            assert not [line for line in lines.values() if b"s3cret" in line], lines
        finally:
            fleet.terminate()
            _, said = fleet.communicate(timeout=20)
        assert b"s3cret" not in said


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += family(int(entry.name))
    return found


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_no_error_log_or_repr_shows_a_payload_key(redsched_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = "s3cret key, with which payloads are signed"
    security = PayloadSecurity([key], encrypt=True)
    scheduler = BackgroundTaskScheduler(redsched_url, "secrets", declared_tasks=False, payload_security=security)
    async with scheduler:
        handle = await scheduler.schedule_immediate_task("job", note, args=["x"])
        await handle.result(timeout=10)
        view = repr(scheduler) + repr(security) + repr(vars(security)) + repr(await scheduler.store())
    await scheduler.clear_all_jobs()
    assert "s3cret" not in view + caplog.text


async def test_who_reads_redis_finds_no_key_no_password_and_nothing_that_is_encrypted() -> None:
    hidden = ["s3cret key, with which payloads are signed", "s3cret-password", "s3cret argument", "s3cret result"]
    key, password, argument, result = hidden

    async def task(value: str) -> str:
        return value.replace("argument", "result")

    with LocalServer() as server, server.client() as reader:
        reader.config_set("requirepass", password)
        scheduler = BackgroundTaskScheduler(
            f"redis://:{password}@127.0.0.1:{server.port}", "secrets", declared_tasks=False,
            payload_security=PayloadSecurity([key], encrypt=True),
        )  # fmt: skip
        scheduler.register(task, name="task")
        async with scheduler:
            handle = await scheduler.schedule_immediate_task("job", task, args=[argument])
            assert (await handle.result(timeout=10)).result == result
            await scheduler.schedule_delayed_task("later", task, delay_minutes=9, args=[argument])
            stored = {name: _all_of(reader, name) for name in reader.keys("*")}
    assert any(b"job:" in name for name in stored)
    assert any(b"result:" in name for name in stored)
    assert b"task" in b"".join(stored.values()), "what is not hidden is found that way"
    for name, value in stored.items():
        assert b"s3cret" not in name + value, name


def _all_of(reader: redis.Redis, name: bytes) -> bytes:
    match reader.type(name):
        case b"string":
            return reader.get(name)
        case b"hash":
            return b"\n".join(part for pair in reader.hgetall(name).items() for part in pair)
        case b"list":
            return b"\n".join(reader.lrange(name, 0, -1))
        case b"set":
            return b"\n".join(reader.smembers(name))
        case b"zset":
            return b"\n".join(reader.zrange(name, 0, -1))
        case _:
            return b"\n".join(part for _, fields in reader.xrange(name) for pair in fields.items() for part in pair)

"""The root: global options, exit codes, help, completion, and a missing extra."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from typer.testing import CliRunner

import redsched
from redsched.cli.exits import ExitCode
from redsched.cli.root import build
from redsched.testing import Kit
from tests.servers import LocalServer

from .harness import Shell

NOBODY = "redis://:secret@127.0.0.1:1"


async def note() -> None: ...


def test_the_version() -> None:
    assert CliRunner().invoke(build(), ["--version"]).stdout == f"redsched {redsched.__version__}\n"


def test_help_has_the_table_of_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(build(), ["--help"]).stdout.split())
    for code in ExitCode:
        assert f"{code.value} {code.meaning}" in text


async def test_global_options_stand_before_or_after_the_command(redsched_kit: Kit, shell: Shell) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("r", note, delay_minutes=5, job_id="a")
    place = ["--url", scheduler.redis_url, "--prefix", scheduler.prefix]
    elsewhere = {"REDSCHED_URL": "redis://127.0.0.1:1", "REDSCHED_PREFIX": "other"}
    for arguments in ([*place, "jobs", "show", "a"], ["jobs", "show", "a", *place]):
        assert (await shell(*arguments, **elsewhere)).exit_code == 0
    assert (await shell("--prefix", "other", "jobs", "show", "a")).exit_code == 1


def test_no_answer_is_3_and_shows_no_password() -> None:
    result = CliRunner().invoke(build(), ["--url", NOBODY, "jobs", "list"])
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "no answer from Redis" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output


async def test_a_wrong_password_is_4_and_is_not_shown() -> None:
    with LocalServer("--requirepass", "right") as server:
        url = server.url.replace("redis://", "redis://:wrong-secret@")
        result = await asyncio.to_thread(CliRunner().invoke, build(), ["--url", url, "jobs", "list"])
    assert result.exit_code == ExitCode.REFUSED
    assert "refused the user" in result.stderr
    assert "secret" not in result.output


def test_a_wrong_url_is_2_and_shows_no_password() -> None:
    for url in ("user:secret@host:6379", "http://:secret@host", "redis://:se/secret@host"):
        result = CliRunner().invoke(build(), ["--url", url, "jobs", "list"])
        assert result.exit_code == ExitCode.USAGE, result.output
        assert "url" in result.stderr
        assert "secret" not in result.output


def test_a_wrong_option_is_2() -> None:
    assert CliRunner().invoke(build(), ["jobs", "list", "--nope"]).exit_code == ExitCode.USAGE
    assert CliRunner().invoke(build(), ["jobs", "list", "--state", "nope"]).exit_code == ExitCode.USAGE


def test_the_shell_completes_commands() -> None:
    env = {**os.environ, "_REDSCHED_COMPLETE": "complete_bash", "COMP_WORDS": "redsched jobs re", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "redsched.cli"], env=env, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"resume", "remove", "requeue"}


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from redsched.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE
    assert "install redsched[cli]" in done.stderr
    assert "Traceback" not in done.stderr

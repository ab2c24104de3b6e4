"""Fixtures of the tests of the command line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from redsched.testing import Kit
from tests.servers import LocalServer

from .harness import APP, Process, Shell, Start


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    (tmp_path / "shop_app.py").write_text(APP)
    return tmp_path


@pytest.fixture
async def start(app_folder: Path, redsched_kit: Kit) -> AsyncIterator[Start]:
    """Start `redsched <arguments>` in the folder of the app, for the kit's Redis and prefix."""
    started: list[Process] = []

    async def begin(*arguments: str, **env: str) -> Process:
        scheduler = redsched_kit.scheduler
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "redsched.cli", *arguments,
            cwd=app_folder,
            env={**os.environ, "APP_REDIS": scheduler.redis_url, "APP_PREFIX": scheduler.prefix, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(Process(process))
        return started[-1]

    yield begin
    for process in started:
        await process.close()


@pytest.fixture
def shell(redsched_kit: Kit) -> Shell:
    return Shell(redsched_kit)


@pytest.fixture
def own_redis() -> Iterator[LocalServer]:
    """For a test that kills it and starts it again."""
    with LocalServer(aof="always") as server:
        yield server

"""The scripts of a checkout ask before they install for the whole machine, and use no folder of another user."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user, and become one")


def shell(
    code: str, *, stdin: int = subprocess.DEVNULL, env: dict[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    groups: list[int] | None = None if user is None else []
    return subprocess.run(
        ["sh", "-c", code], cwd=ROOT, stdin=stdin, capture_output=True, text=True, timeout=60, check=False, env=env,
        user=user, group=user, extra_groups=groups,
    )  # fmt: skip


@pytest.fixture
def machine() -> Iterator[Path]:
    """A folder for PATH with a sudo and an apt-get that only write down how they were called."""
    folder = Path(tempfile.mkdtemp(prefix="redsched-test-"))
    folder.chmod(0o755)
    (folder / "calls").touch()
    (folder / "calls").chmod(0o666)
    for name in ("sudo", "apt-get"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n')
        (folder / name).chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@as_root
@pytest.mark.parametrize(
    ("answer", "variable", "installs"),
    [
        ("y\n", "", True),
        ("yes\n", "", True),
        ("n\n", "", False),
        ("\n", "", False),
        (None, "", False),
        (None, "yes", True),
        ("y\n", "no", False),
    ],
)
def test_sudo_is_used_only_after_a_yes(machine: Path, answer: str | None, variable: str, installs: bool) -> None:
    environment = {"PATH": f"{machine}:{os.environ['PATH']}", "REDSCHED_SUDO": variable, "HOME": "/"}
    main, terminal = pty.openpty()
    try:
        if answer is not None:
            os.write(main, answer.encode())
        done = shell(
            ". .ci/venv.sh; debian redis-server", stdin=subprocess.DEVNULL if answer is None else terminal,
            env=environment, user=OTHER,
        )  # fmt: skip
    finally:
        os.close(main)
        os.close(terminal)
    calls = (machine / "calls").read_text()
    assert ("install" in calls) is installs, (calls, done.stderr)
    assert (done.returncode == 0) is installs
    if not installs:
        assert calls == ""


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x").chmod(mode)
    done = shell(f". .ci/folders.sh; own_folder {tmp_path}/x")
    assert done.returncode == 1
    assert f"{tmp_path}/x must be a folder of this user" in done.stderr


def test_a_link_is_refused_and_a_new_folder_is_private(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    assert shell(f". .ci/folders.sh; own_folder {tmp_path}/link").returncode == 1
    assert shell(f". .ci/folders.sh; own_folder {tmp_path}/real").returncode == 0
    assert shell(f". .ci/folders.sh; own_folder {tmp_path}/new").returncode == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@as_root
@pytest.mark.parametrize(
    "command",
    ["start-docker.sh --stop", "newer-debian.sh forky {}", "in-root.sh {} -- true"],
    ids=["stop", "newer", "in-root"],
)
def test_a_script_uses_no_folder_of_another_user(tmp_path: Path, command: str) -> None:
    """The pid in it is not ended, and nothing in it is run."""
    folder = tmp_path / "theirs"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (folder / "bin" / "sh").chmod(0o755)
    (folder / ".made-from").write_text("forky ")
    os.chown(folder, OTHER, OTHER)
    with subprocess.Popen(["sleep", "60"]) as victim:
        (folder / "dockerd.pid").write_text(str(victim.pid))
        done = shell(f"bash .ci/containers/{command.format(folder)}", env={**os.environ, "DOCKER_STATE": str(folder)})
        assert victim.poll() is None
        victim.kill()
    assert done.returncode != 0
    assert "must be a folder of this user" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_every_fixed_folder_under_the_temporary_one_is_checked() -> None:
    """Whoever adds one to a script uses own_folder, or mktemp."""
    for script in [*(ROOT / ".ci").rglob("*.sh"), *(ROOT / "tests").glob("*.sh"), *(ROOT / "examples").rglob("*.sh")]:
        text = "\n".join(line for line in script.read_text().splitlines() if not line.lstrip().startswith("#"))
        if ":-/tmp/" in text or ":-/var/tmp/" in text:
            assert "own_folder" in text, script

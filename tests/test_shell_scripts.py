"""The scripts of a checkout ask before they install for the whole machine, and use no folder of another user."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers

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


SOURCES = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]


@as_root
@pytest.mark.skipif(not any(path.exists() for path in SOURCES), reason="no Debian")
def test_a_root_is_made_from_a_mirror_that_this_machine_uses(machine: Path) -> None:
    """Of two files that may name it, one is there; and what a comment names may hold this release only."""
    (machine / "debootstrap").write_text(
        f'#!/bin/sh\necho "$*" > {machine}/calls\nmkdir -p {machine}/root/etc/ssl/certs\n'
    )
    (machine / "debootstrap").chmod(0o755)
    environment = {**os.environ, "PATH": f"{machine}:{os.environ['PATH']}"}
    done = shell(f"bash .ci/containers/newer-debian.sh trixie {machine}/root redis-server", env=environment)
    assert done.returncode == 0, done.stderr
    used = [line for path in SOURCES if path.exists() for line in path.read_text().splitlines() if line[:1] != "#"]
    suite, root, mirror, _ = (machine / "calls").read_text().split()[-4:]
    assert (suite, root) == ("trixie", f"{machine}/root")
    assert any(mirror in line for line in used)
    assert (machine / "root" / ".made-from").read_text() == "trixie redis-server\n"


# -- the docker daemon -------------------------------------------------------------------------------------------------

DOCKER = """#!/bin/sh
[ -e {folder}/up ] && echo a daemon
"""
DOCKERD = """#!/bin/bash
echo attempt >> {folder}/attempts
if [ -e {run}/containerd/containerd.pid ]; then echo "failed: a containerd is left over"; exit 1; fi
mkdir -p {run}/containerd
touch {run}/containerd/containerd.sock
if [ "$(wc -l < {folder}/attempts)" -le {fails} ]; then
    (exec -a "containerd --config {run}/containerd/containerd.toml" sleep 300) &
    echo $! > {run}/containerd/containerd.pid
    echo "failed to start containerd: timeout waiting for containerd to start"
    {then}
fi
echo $$ > {state}/dockerd.pid
touch {folder}/up
while :; do sleep 0.05; done
"""


@pytest.fixture
def start_docker(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run start-docker.sh with a dockerd that fails at first and leaves its containerd, a docker and a pidof."""
    state, run = tmp_path / "state", tmp_path / "run"
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_STATE": str(state), "DOCKER_RUN": str(run),
    }  # fmt: skip

    def start(
        fails: int = 0, then: str = "exit 1", option: str = "", limit_s: int = 60
    ) -> subprocess.CompletedProcess[str]:
        dockerd = DOCKERD.format(folder=tmp_path, run=run, state=state, fails=fails, then=then)
        scripts = {"dockerd": dockerd, "docker": DOCKER.format(folder=tmp_path), "pidof": "#!/bin/sh\nexit 1\n"}
        for name, text in scripts.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        limit = {"DOCKER_LIMIT": str(limit_s)}
        return shell(f"bash .ci/containers/start-docker.sh {option}", env=environment | limit)

    yield start
    start(option="--stop")


def processes_that_name(folder: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-af", f"--config {folder}"], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


@as_root
@pytest.mark.parametrize(
    ("fails", "then", "limit_s", "why"),
    [(2, "exit 1", 60, "exited"), (1, "sleep 300", 5, "did not answer in 5 s")],
    ids=["exits", "does not answer"],
)
def test_the_daemon_is_started_once_more_when_its_containerd_was_too_slow(
    start_docker: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path, fails: int, then: str, limit_s: int, why: str,
) -> None:  # fmt: skip
    done = start_docker(fails, then, limit_s=limit_s)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "attempts").read_text().split() == ["attempt"] * (fails + 1)
    assert f"attempt {fails} of 3: dockerd {why}" in done.stderr
    assert processes_that_name(tmp_path) == [], "the containerd of a failed attempt is ended"


@as_root
def test_a_daemon_that_never_comes_up_is_given_up_after_three_attempts_and_says_why(
    start_docker: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = start_docker(fails=9)
    assert done.returncode == 1
    assert (tmp_path / "attempts").read_text().split() == ["attempt"] * 3
    assert done.stderr.splitlines()[-1].endswith("timeout waiting for containerd to start")
    assert processes_that_name(tmp_path) == []
    assert not list((tmp_path / "run" / "containerd").iterdir())


@as_root
def test_only_the_daemon_that_the_script_started_is_stopped(
    start_docker: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert start_docker().returncode == 0
    pid = int((tmp_path / "state" / "dockerd.pid").read_text())
    stopped = start_docker(option="--stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"start-docker: stopped pid {pid}\n")
    assert not Path(f"/proc/{pid}").exists()
    assert start_docker(option="--stop").stdout == "start-docker: no daemon of ours is running\n"


# -- containers in tests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "ready", "asked"),
    [([None], None, 1), (["too slow", None], None, 2), (["too slow", "none"], "none", 2)],
    ids=["at once", "at the second attempt", "never"],
)
def test_containers_are_asked_for_twice_before_tests_do_without_them(
    monkeypatch: pytest.MonkeyPatch, answers: list[str | None], ready: str | None, asked: int
) -> None:
    calls = iter(answers)
    monkeypatch.delenv("REDSCHED_REQUIRE_CONTAINERS", raising=False)
    monkeypatch.setattr(servers, "make_ready", lambda: next(calls))
    ask = servers.docker_ready.__wrapped__  # without what is kept for the run
    assert ask() == ready
    assert len(answers) - len(list(calls)) == asked


def test_containers_that_are_forbidden_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSCHED_REQUIRE_CONTAINERS", "0")
    monkeypatch.setattr(servers, "make_ready", lambda: pytest.fail("asked"))
    assert servers.docker_ready.__wrapped__() == "REDSCHED_REQUIRE_CONTAINERS is 0"


@pytest.fixture
def environment_folder(tmp_path: Path) -> Path:
    """An environment whose Python writes down what pip is asked to install, instead of installing it."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    record = f'if [ "$1 $2" = "-m pip" ]; then echo "$*" >> {folder}/calls; exit; fi'
    python.write_text(f'#!/bin/sh\n{record}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


def test_an_environment_gets_the_named_extras_and_the_requirements_of_the_group(environment_folder: Path) -> None:
    done = shell(f". .ci/venv.sh; make_venv {environment_folder} all,neuroglia dev")
    assert done.returncode == 0, done.stderr
    [call] = (environment_folder / "calls").read_text().splitlines()
    assert "--editable .[all,neuroglia]" in call
    assert f"--requirement {environment_folder}/.requirements" in call
    wanted = (environment_folder / ".requirements").read_text().splitlines()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {*groups["test"], *groups["release"]} < set(wanted), "dev includes both"
    assert set(wanted) == {
        *groups["test"], *groups["release"], *(entry for entry in groups["dev"] if isinstance(entry, str)),
    }  # fmt: skip


def test_an_environment_is_made_once_for_each_version_extras_and_group(environment_folder: Path) -> None:
    for request in ("all", "all", "all dev", "all dev"):
        assert shell(f". .ci/venv.sh; make_venv {environment_folder} {request}").returncode == 0
    assert len((environment_folder / "calls").read_text().splitlines()) == 2
    other = environment_folder.parent / "checkout"
    shutil.copytree(ROOT / ".ci", other / ".ci")
    (other / "redsched").mkdir()
    shutil.copy(ROOT / "pyproject.toml", other)
    for version in ("1.0.0", "1.0.1", "1.0.1"):
        (other / "redsched" / "__init__.py").write_text(f'__version__ = "{version}"\n')
        assert shell(f"cd {other} && . .ci/venv.sh && make_venv {environment_folder} all dev").returncode == 0
    assert len((environment_folder / "calls").read_text().splitlines()) == 4


def test_an_unknown_group_is_an_error_that_names_those_there_are(environment_folder: Path) -> None:
    done = shell(f". .ci/venv.sh; make_venv {environment_folder} all nonsense")
    assert done.returncode == 2
    assert "no dependency group 'nonsense'; it has test, bench, release, dev" in done.stderr
    assert not (environment_folder / "calls").exists()

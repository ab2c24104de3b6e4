"""`python -m benchmarks`: redsched beside other queues, and alone, in one run: tables, a plot, and JSON.

The first run makes a virtual environment for each queue. `--quick` ends within two minutes once these are there.
`--check` exits with 1 if the whole path falls below a share of the bare script call in the same run: a ratio, and the
best of three tries, so that it holds on a slow or noisy machine. All that was started ends with it, also at Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import scenarios
from benchmarks.alone import alone
from benchmarks.bench import server
from benchmarks.claims import claims, figures_of, put_between
from benchmarks.compare import PEERS, Run, compare, in_a_loop, install_all
from benchmarks.environments import HERE, InstallError, command_of, install
from benchmarks.profiling import profile
from benchmarks.report import as_json, as_markdown, as_text
from benchmarks.setup import bench_server, ledger, machine

SHARE = 0.6
"""The least share of the bare script's throughput that the whole path must keep (batch 100). Measured: see
docs/performance.md."""

DOCS = HERE.parent / "docs"
README = HERE.parent / "README.md"

PLOT_REQUIRES = ("matplotlib==3.10.3",)


def check() -> int:
    """The regression check: the whole path against the bare script call. Noise only takes away: the best try counts."""
    return 0 if any(check_once() == 0 for _ in range(3)) else 1


def check_once() -> int:
    """One try of it."""
    jobs = 20_000
    with bench_server() as url, ledger() as book:
        figures = in_a_loop(scenarios.bare_script(url, jobs, 100))
        figures |= in_a_loop(scenarios.whole_path(url, book, jobs, 100))
        where = machine(url)
    for name, value in figures.items():
        print(f"{name:55} {value:12,.2f}")
    share = figures["whole path, concurrency 100, jobs/s"] / figures["bare script, batch 100, jobs/s"]
    print(f"{'whole path / bare script, batch 100':55} {share:12.2%}")
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if share < SHARE:
        print(
            f"REGRESSION: the whole path keeps {share:.0%} of the bare script's throughput; at least {SHARE:.0%} is due"
        )
        return 1
    return 0


def plot(results: Path, picture: Path) -> str:
    """Draw, here or in an environment of its own. Returns what came of it."""
    python = [sys.executable]
    if importlib.util.find_spec("matplotlib") is None:
        try:
            install("plot", PLOT_REQUIRES)
        except InstallError as error:
            return f"no plot: matplotlib {error}"
        python = command_of("plot")
    done = subprocess.run(
        [*python, HERE / "plot.py", results, picture], capture_output=True, text=True, check=False, timeout=120
    )
    return f"no plot: {done.stderr.strip()[-300:]}" if done.returncode else str(picture)


def measure(options: argparse.Namespace) -> int:
    """The whole run."""
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    names = set(options.peers.split(",")) if options.peers is not None else None
    if names is not None and (unknown := names - {peer.name for peer in PEERS} - {""}):
        raise SystemExit(f"--peers: {', '.join(sorted(unknown))} unknown; there are {[peer.name for peer in PEERS]}")
    with server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        run = Run(port, options.quick, lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True))
        where = machine(url)
        complete = False
        try:
            peers = install_all(run, names)
            run.began = time.monotonic()
            jobs = 20_000 if options.quick else 100_000
            compare(run, peers, lambda: in_a_loop(scenarios.bare_script(url, jobs, 100)))
            alone(run)
            complete = True
        finally:  # also if it is stopped: what was measured until then
            report(run, where, options, complete=complete)
    print(f"{time.monotonic() - began:.0f} s")
    return 0


def report(run: Run, where: dict[str, Any], options: argparse.Namespace, *, complete: bool) -> None:
    """Tables, bars, plot and JSON; with --docs the page and README too, unless the run was stopped."""
    text = as_markdown(run, where)
    print("\n" + text + as_text(run))
    results = options.json or options.out / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(as_json(run, where), indent=1, ensure_ascii=False) + "\n")
    (options.out / "results.md").write_text(text)
    print(f"\n{results}, {options.out / 'results.md'}, {plot(results, options.out / 'results.png')}")
    if options.docs and complete:
        page, picture = DOCS / "performance.md", DOCS / "performance.png"
        page.write_text(put_between(page.read_text(), text))
        write_claims()
        print(f"{page}, {README}, {plot(results, picture)}")


def write_claims() -> None:
    """README's figures, from the page's."""
    README.write_text(put_between(README.read_text(), claims(figures_of((DOCS / "performance.md").read_text()))))


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and scenarios, within two minutes")
    parser.add_argument("--check", action="store_true", help="only the regression check")
    parser.add_argument("--profile", action="store_true", help="only where the time goes in worker and Redis")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, not into the folder")
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=HERE / "out", help="for tables, plot and JSON")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="put tables and plot into docs/performance.md and .png, and README's figures with them",
    )
    parser.add_argument(
        "--claims", action="store_true", help="only README's figures, from docs/performance.md as it is"
    )
    parser.add_argument("--peers", metavar="NAMES", help="only these, with commas between; '' = redsched alone")
    options = parser.parse_args()
    if options.docs and (options.quick or options.peers is not None):
        parser.error("--docs must measure all: without --quick and --peers")
    if options.claims:
        write_claims()
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        if options.profile:
            profile()
            return 0
        return check() if options.check else measure(options)
    except KeyboardInterrupt:
        print("stopped")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

"""Draws a run: `python plot.py RESULTS.json OUT.png`, wherever matplotlib is: here, or in an environment of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    run = json.loads(Path(sys.argv[1]).read_text())
    figure, axes = plt.subplots(2, 2, figsize=(11, 7))
    for axis, column in zip(axes.flat, run["plotted"], strict=True):
        smaller = "CPU" in column
        found = [(name, row[column]) for name, row in run["figures"].items() if column in row]
        found.sort(key=lambda pair: pair[1], reverse=smaller)
        names, values = [name for name, _ in found], [value for _, value in found]
        bars = axis.barh(names, values, color=["#c0392b" if name == "redsched" else "#95a5a6" for name in names])
        axis.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axis.set_title(f"{column} ({'less' if smaller else 'more'} is better)", fontsize=10)
        axis.margins(x=0.16)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"One worker process, one run: {run['machine']['cores']} cores, {run['machine']['server']}", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


if __name__ == "__main__":
    main()

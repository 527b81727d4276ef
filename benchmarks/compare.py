"""This package beside plain dagster-dbt: the same product, the same machine, alternating processes, medians.

Writes ``results.json``, ``results.md`` and ``ratios.svg`` into ``--output``. ``make bench`` is a small run of it,
``make bench-full`` the whole; docs/benchmarks.md shows a full one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from plot import draw_ratios
from products import copy_sample, generate_product, prepare

HERE = Path(__file__).parent
PACKAGES = ("floe-orchestrator-dagster", "dagster", "dagster-dbt", "dbt-core")
SAMPLE = 0
"""The size that stands for the sample product."""


@dataclass(frozen=True)
class Measure:
    """A number that a script prints.

    Attributes:
        script: The script, and what it is asked for.
        key: The number's name in what it prints.
        title: What it is, with its unit.
        beside: What it is held against: plain dagster-dbt (``stock``) or dbt alone (``plain``).
    """

    script: tuple[str, ...]
    key: str
    title: str
    beside: str = "stock"


@dataclass(frozen=True)
class Row:
    """Medians of a measure at one size.

    Attributes:
        title: What was measured.
        size: Models of the product.
        stock: Plain dagster-dbt's median, or dbt's; None where only ours was measured.
        floe: Ours.
        rounds: How often each was measured.
    """

    title: str
    size: int
    stock: float | None
    floe: float
    rounds: int

    @property
    def ratio(self) -> float | None:
        """Ours over the other: less is better."""
        return None if self.stock is None else self.floe / self.stock


_LOAD: tuple[str, ...] = ("load.py", "load")
_RELOAD: tuple[str, ...] = ("load.py", "reload")
_PLUGIN: tuple[str, ...] = ("load.py", "plugin")
_EVENTS: tuple[str, ...] = ("events.py",)
_BUILD: tuple[str, ...] = ("build.py", "all")
_ONE: tuple[str, ...] = ("build.py", "one")
_CPU_OF_LOAD = "load, CPU after imports (s)"
_CPU_OF_EVENTS = "events of a whole build, own CPU (s)"
# Beyond this many models plain dagster-dbt takes a quarter of an hour and more for the events of one build.
_STOCK_EVENTS = 1000
MEASURES = (
    Measure(_LOAD, "cpu", _CPU_OF_LOAD),
    Measure(_LOAD, "process_cpu", "load, CPU of the whole process (s)"),
    Measure(_LOAD, "peak_mb", "load, peak memory (MB)"),
    Measure(_LOAD, "snapshot_mb", "load, what the webserver fetches (MB)"),
    Measure(_RELOAD, "cpu", "reload in a run worker, CPU after imports (s)"),
    Measure(_PLUGIN, "import", "import of floe-core's interface, and of the plugin on top (s)"),
    Measure(_EVENTS, "cpu", _CPU_OF_EVENTS),
    Measure(_BUILD, "first_node", "step's start to dbt's first node, wall (s)"),
    Measure(_BUILD, "wall", "whole build, wall (s)"),
    Measure(_BUILD, "wall", "whole build, wall, beside `dbt build` alone (s)", "plain"),
    Measure(_ONE, "process", "one model: launch to end, wall (s)"),
)
GROWTH = (_CPU_OF_LOAD, _CPU_OF_EVENTS)
"""What is told of the smallest and the largest size."""


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[SAMPLE, 500], help="models to load; 0 is the sample")
    parser.add_argument("--event-sizes", type=int, nargs="*", default=[250], help="sizes to consume events of")
    parser.add_argument("--build-sizes", type=int, nargs="*", default=[50], help="sizes to build for real")
    parser.add_argument("--one-of", type=int, nargs="*", default=[50], help="sizes to build one model of")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--build-rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    arguments = parser.parse_args()
    sizes_of = {
        _PLUGIN: {min(arguments.sizes, default=SAMPLE)},
        _LOAD: {*arguments.sizes},
        _RELOAD: {*arguments.sizes},
        _EVENTS: {*arguments.event_sizes},
        _BUILD: {*arguments.build_sizes},
        _ONE: {*arguments.one_of},
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as name:
        for size in sorted(set().union(*sizes_of.values())):
            artifacts = generate_product(Path(name), size) if size else copy_sample(Path(name))
            prepare(artifacts)
            for script, sizes in sizes_of.items():
                if size in sizes:
                    rounds = arguments.build_rounds if script[0] == _BUILD[0] else arguments.rounds
                    rows += measured(script, size, artifacts, rounds)
                    write(rows, arguments.output)


def measured(script: tuple[str, ...], size: int, artifacts: Path, rounds: int) -> list[Row]:
    """Run a script for all that are compared, in turns."""
    measures = [measure for measure in MEASURES if measure.script == script]
    beside = dict.fromkeys(measure.beside for measure in measures if script != _EVENTS or size <= _STOCK_EVENTS)
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in (*beside, "floe")}
    for _ in range(rounds):
        for who, found in runs.items():
            found.append(measurement(script, who, artifacts))
    rows = []
    for measure in measures:
        medians = {
            who: statistics.median(run[measure.key] for run in found)
            for who, found in runs.items()
            if who in (measure.beside, "floe")
        }
        rows.append(Row(measure.title, size, medians.get(measure.beside), medians["floe"], rounds))
        print(line(rows[-1]), flush=True)
    return rows


def measurement(script: tuple[str, ...], who: str, artifacts: Path) -> dict[str, float]:
    """Run a script once."""
    command = [sys.executable, str(HERE / script[0]), who, *script[1:], str(artifacts)]
    # dagster and dbt log to stderr; it is shown when something fails.
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr[-4000:]}")
    printed: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return printed


def write(rows: list[Row], directory: Path) -> None:
    """Write all that is known so far: a run that is stopped has written what it measured."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    (directory / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    table = "\n".join(["| | models | plain dagster-dbt | floe | ratio |", "|---|---|---|---|---|", *map(line, rows)])
    table += "\n\n" + "\n".join(filter(None, (growth(rows, title) for title in GROWTH)))
    said = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    (directory / "results.md").write_text(f"{table}\n\n{said}\n", encoding="utf-8")
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.size and row.ratio is not None:
            curves.setdefault(row.title, []).append((row.size, row.ratio))
    (directory / "ratios.svg").write_text(draw_ratios(curves), encoding="utf-8")


def line(row: Row) -> str:
    """One line of the table."""
    size = row.size or "sample"
    if row.stock is None or row.ratio is None:
        return f"| {row.title} | {size} | not measured | {row.floe:.2f} | |"
    return f"| {row.title} | {size} | {row.stock:.2f} | {row.floe:.2f} | **{row.ratio:.2f}** |"


def growth(rows: list[Row], title: str) -> str | None:
    """How much more the largest product takes than one of 500 models."""
    floe = {row.size: row.floe for row in rows if row.title == title}
    if 500 not in floe or max(floe) == 500:  # noqa: PLR2004  # the size that is told of
        return None
    return f"- {title}: {max(floe)} models take {floe[max(floe)] / floe[500]:.1f} times what 500 take."


def machine() -> dict[str, str]:
    """Say where and with what this was measured."""
    return {
        "measured": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()

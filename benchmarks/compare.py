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
    """

    script: tuple[str, ...]
    key: str
    title: str


@dataclass(frozen=True)
class Row:
    """Medians of a measure at one size.

    Attributes:
        title: What was measured.
        size: Models of the product.
        stock: Plain dagster-dbt's median.
        floe: Ours.
        rounds: How often each was measured.
    """

    title: str
    size: int
    stock: float
    floe: float
    rounds: int

    @property
    def ratio(self) -> float:
        """Ours over plain dagster-dbt's: less is better."""
        return self.floe / self.stock


_LOAD: tuple[str, ...] = ("load.py", "load")
_RELOAD: tuple[str, ...] = ("load.py", "reload")
_EVENTS: tuple[str, ...] = ("events.py",)
MEASURES = (
    Measure(_LOAD, "cpu", "load, CPU after imports (s)"),
    Measure(_LOAD, "process_cpu", "load, CPU of the whole process (s)"),
    Measure(_LOAD, "peak_mb", "load, peak memory (MB)"),
    Measure(_LOAD, "snapshot_mb", "load, what the webserver fetches (MB)"),
    Measure(_RELOAD, "cpu", "reload in a run worker, CPU after imports (s)"),
    Measure(_EVENTS, "cpu", "events of a whole build, own CPU (s)"),
)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[SAMPLE, 250, 1000], help="models; 0 is the sample")
    parser.add_argument("--event-sizes", type=int, nargs="*", default=[250], help="sizes to consume events of")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as name:
        for size in sorted({*arguments.sizes, *arguments.event_sizes}):
            artifacts = generate_product(Path(name), size) if size else copy_sample(Path(name))
            prepare(artifacts)
            scripts = [_LOAD, _RELOAD] if size in arguments.sizes else []
            scripts += [_EVENTS] if size in arguments.event_sizes else []
            for script in scripts:
                rows += measured(script, size, artifacts, arguments.rounds)
                write(rows, arguments.output)


def measured(script: tuple[str, ...], size: int, artifacts: Path, rounds: int) -> list[Row]:
    """Run a script for both, in turns."""
    runs: dict[str, list[dict[str, float]]] = {"stock": [], "floe": []}
    for _ in range(rounds):
        for who, found in runs.items():
            command = [sys.executable, str(HERE / script[0]), who, *script[1:], str(artifacts)]
            # dagster and dbt log to stderr; it is shown when something fails.
            finished = subprocess.run(command, check=False, capture_output=True, text=True)
            if finished.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr[-4000:]}")
            found.append(json.loads(finished.stdout.splitlines()[-1]))
    rows = []
    for measure in MEASURES:
        if measure.script == script:
            stock, floe = (statistics.median(run[measure.key] for run in runs[who]) for who in ("stock", "floe"))
            rows.append(Row(measure.title, size, stock, floe, rounds))
            print(line(rows[-1]), flush=True)
    return rows


def write(rows: list[Row], directory: Path) -> None:
    """Write all that is known so far: a run that is stopped has written what it measured."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    (directory / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    table = "\n".join(["| | models | plain dagster-dbt | floe | ratio |", "|---|---|---|---|---|", *map(line, rows)])
    said = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    (directory / "results.md").write_text(f"{table}\n\n{said}\n", encoding="utf-8")
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.size:
            curves.setdefault(row.title, []).append((row.size, row.ratio))
    (directory / "ratios.svg").write_text(draw_ratios(curves), encoding="utf-8")


def line(row: Row) -> str:
    """One line of the table."""
    size = row.size or "sample"
    return f"| {row.title} | {size} | {row.stock:.2f} | {row.floe:.2f} | **{row.ratio:.2f}** |"


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

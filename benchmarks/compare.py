"""Comparison with plain dagster-dbt: same product, same machine, alternating processes, medians.

Writes ``results.json``, ``results.md`` and ``sizes.svg`` into ``--output``. ``make bench`` runs a small
comparison, ``make bench-full`` a full one; docs/internals/benchmarks.md shows the results of the latter.
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
from typing import TYPE_CHECKING

from plot import draw_panels
from products import SHAPES, Shape, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

HERE = Path(__file__).parent
PACKAGES = ("floe-orchestrator-dagster", "dagster", "dagster-dbt", "dbt-core")
Script = tuple[str, ...]
"""A script and its arguments."""


@dataclass(frozen=True)
class Measure:
    """A number that a script prints.

    Attributes:
        script: The script and its arguments.
        key: The number's name in the output.
        title: Description with unit.
        beside: Compared with plain dagster-dbt (``stock``) or dbt alone (``plain``).
    """

    script: Script
    key: str
    title: str
    beside: str = "stock"


@dataclass(frozen=True)
class Asked:
    """Products and rounds of one script.

    Attributes:
        script: The script.
        shapes: The products.
        rounds: Number of rounds.
    """

    script: Script
    shapes: AbstractSet[Shape]
    rounds: int


@dataclass(frozen=True)
class Row:
    """A measure of one product.

    Attributes:
        title: What was measured.
        shape: The product.
        stock: Results per round for plain dagster-dbt, or for dbt; empty if not measured.
        floe: Results per round for this package.
    """

    title: str
    shape: Shape
    stock: Sequence[float]
    floe: Sequence[float]

    @property
    def ratio(self) -> float | None:
        """Median ratio of this package to the other; lower is better.

        Each round has a separate ratio, because a shared machine may be slower in one round than in the next.
        """
        pairs = [ours / other for ours, other in zip(self.floe, self.stock, strict=False)]
        return statistics.median(pairs) if pairs else None


_LOAD: Script = ("load.py", "load")
_RELOAD: Script = ("load.py", "reload")
_RELOAD_ONE: Script = ("load.py", "reload-one")
_PLUGIN: Script = ("load.py", "plugin")
_EVENTS: Script = ("events.py",)
_EVENTS_IN_POSTGRES: Script = ("events.py", "postgres")
_BUILD: Script = ("build.py", "all")
_ONE: Script = ("build.py", "one")
_CPU_OF_LOAD = "load, CPU after imports (s)"
_CPU_OF_EVENTS = "events of a whole build, own CPU (s)"
_CPU_IN_POSTGRES = "events of a whole build on PostgreSQL, own CPU (s)"
_MEMORY_OF_LOAD = "load, peak memory (MB)"
_WALL_OF_BUILD = "whole build, wall (s)"
# Beyond this many models plain dagster-dbt takes a quarter of an hour and more for the events of one build.
_STOCK_EVENTS = 1000
MEASURES = (
    Measure(_LOAD, "cpu", _CPU_OF_LOAD),
    Measure(_LOAD, "process_cpu", "load, CPU of the whole process (s)"),
    Measure(_LOAD, "peak_mb", _MEMORY_OF_LOAD),
    Measure(_LOAD, "snapshot_mb", "load, what the webserver fetches (MB)"),
    Measure(_RELOAD, "cpu", "reload in a run worker, CPU after imports (s)"),
    Measure(_RELOAD_ONE, "cpu", "reload in a run worker, one model selected, CPU after imports (s)"),
    Measure(_PLUGIN, "import", "import of floe-core's interface, and of the plugin on top (s)"),
    Measure(_EVENTS, "cpu", _CPU_OF_EVENTS),
    Measure(_EVENTS_IN_POSTGRES, "cpu", _CPU_IN_POSTGRES),
    Measure(_BUILD, "first_node", "step's start to dbt's first node, wall (s)"),
    Measure(_BUILD, "wall", _WALL_OF_BUILD),
    Measure(_BUILD, "wall", "whole build, wall, with `dbt build` alone in place of plain dagster-dbt (s)", "plain"),
    Measure(_ONE, "first_node", "one model: step's start to dbt's first node, wall (s)"),
    Measure(_ONE, "launch_cpu", "one model: launch to dbt's first node, CPU of all processes (s)"),
    Measure(_ONE, "launch", "one model: launch to dbt's first node, wall (s)"),
    Measure(_ONE, "process", "one model: launch to end, wall (s)"),
)
PLOTTED = (_CPU_OF_LOAD, _MEMORY_OF_LOAD, _CPU_OF_EVENTS, _CPU_IN_POSTGRES, _WALL_OF_BUILD)
"""Measures in the plots."""
GROWTH = (_CPU_OF_LOAD, _CPU_OF_EVENTS)
"""Measures whose growth to the largest size is printed."""
GROWTH_FROM = {"real": 1000, "regular": 500}
"""Size from which the growth of a shape is computed."""


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes: list[tuple[str, str, str]] = [
        ("--sizes", "real-500 500 0", "products to load: real-500, 500 (regular), thin-500, 0 (the sample)"),
        ("--reload-sizes", "real-500 500 0", "products to load as a run worker"),
        ("--event-sizes", "250", "products to consume events of"),
        ("--postgres-event-sizes", "", "products to consume events of, with Dagster's storage in PostgreSQL"),
        ("--build-sizes", "50", "products to build for real"),
        ("--one-of", "", "products to build one model of"),
    ]
    for option, default, text in sizes:
        products = [*map(Shape.parsed, default.split())]
        parser.add_argument(option, type=Shape.parsed, nargs="*", metavar="SIZE", default=products, help=text)
    parser.add_argument("--rounds", type=int, default=2, help="of loads")
    parser.add_argument("--event-rounds", type=int, default=1)
    parser.add_argument("--build-rounds", type=int, default=1)
    parser.add_argument("--one-rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    parser.add_argument("--add", action="store_true", help="keep what an earlier run has measured besides")
    arguments = parser.parse_args()
    asked = [
        Asked(_PLUGIN, {Shape("sample", 0)} if arguments.sizes else set(), arguments.rounds),
        Asked(_LOAD, {*arguments.sizes}, arguments.rounds),
        Asked(_RELOAD, {*arguments.reload_sizes}, arguments.rounds),
        Asked(_RELOAD_ONE, {*arguments.reload_sizes}, arguments.rounds),
        Asked(_EVENTS, {*arguments.event_sizes}, arguments.event_rounds),
        Asked(_EVENTS_IN_POSTGRES, {*arguments.postgres_event_sizes}, arguments.event_rounds),
        Asked(_ONE, {*arguments.one_of}, arguments.one_rounds),
        Asked(_BUILD, {*arguments.build_sizes}, arguments.build_rounds),
    ]
    known = {(row.title, row.shape): row for row in (read(arguments.output) if arguments.add else [])}
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as name:
        for rows in measured(asked, Path(name)):
            known |= {(row.title, row.shape): row for row in rows}
            print("\n".join(map(line, rows)), flush=True)
            write(list(known.values()), arguments.output)


def measured(asked: Sequence[Asked], directory: Path) -> Iterator[list[Row]]:
    """Measure all that is asked for, round by round; yields the rows that each measurement adds to."""
    products = {shape: prepared(directory, shape) for shape in in_order(*(one.shapes for one in asked))}
    found: dict[tuple[Script, Shape, str], list[dict[str, float]]] = {}
    for number in range(max(one.rounds for one in asked)):
        for one in asked:
            for shape in in_order(one.shapes) if number < one.rounds else ():
                for who in compared(one.script, shape):
                    found.setdefault((one.script, shape, who), []).append(measurement(one.script, who, products[shape]))
                yield rows_of(found, one.script, shape)


def in_order(*shapes: AbstractSet[Shape]) -> list[Shape]:
    """Sort products: real shapes first, each from small to large."""
    return sorted(set[Shape]().union(*shapes), key=lambda shape: shape.rank)


def prepared(directory: Path, shape: Shape) -> Path:
    """Make a product, ready to be loaded and built."""
    artifacts = shape.write(directory)
    prepare(artifacts)
    return artifacts


def compared(script: Script, shape: Shape) -> Iterable[str]:
    """Name who is measured, in turns."""
    beside = [measure.beside for measure in MEASURES if measure.script == script]
    return (*dict.fromkeys(() if script == _EVENTS and shape.models > _STOCK_EVENTS else beside), "floe")


def rows_of(
    found: Mapping[tuple[Script, Shape, str], Sequence[Mapping[str, float]]], script: Script, shape: Shape
) -> list[Row]:
    """Make a row of each measure of a script for one product."""
    return [
        Row(
            measure.title,
            shape,
            [one[measure.key] for one in found.get((script, shape, measure.beside), ())],
            [one[measure.key] for one in found[script, shape, "floe"]],
        )
        for measure in MEASURES
        if measure.script == script
    ]


def measurement(script: Script, who: str, artifacts: Path) -> dict[str, float]:
    """Run a script once."""
    command = [sys.executable, str(HERE / script[0]), who, *script[1:], str(artifacts)]
    # dagster and dbt log to stderr; it is shown when something fails.
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr[-4000:]}")
    printed: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return printed


def read(directory: Path) -> list[Row]:
    """Read what an earlier run has written there."""
    path = directory / "results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    if not all("shape" in row for row in rows):
        raise SystemExit(f"{path} is of an older version, which had no shapes: remove it, or leave --add out")
    return [Row(row["title"], Shape(**row["shape"]), row["stock"], row["floe"]) for row in rows]


def write(rows: list[Row], directory: Path) -> None:
    """Write all that is known so far: a run that is stopped has written what it measured."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    (directory / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    head = ["| | models | plain dagster-dbt | floe | ratio | rounds |", "|---|---|---|---|---|---|"]
    titles = [measure.title for measure in MEASURES]
    ordered = sorted(rows, key=lambda row: (titles.index(row.title), row.shape.rank))
    table = "\n".join([*head, *map(line, ordered)])
    grown = (growth(rows, title, shape) for title in GROWTH for shape in GROWTH_FROM)
    table += "\n\n" + "\n".join(filter(None, grown))
    said = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    (directory / "results.md").write_text(f"{table}\n\n{said}\n", encoding="utf-8")
    (directory / "sizes.svg").write_text(draw_panels(curves(rows)), encoding="utf-8")


def curves(rows: Sequence[Row]) -> dict[str, list[tuple[int, float | None, float]]]:
    """Return the points of each plot: a measure of a shape, by size, for shapes that were measured at two sizes."""
    found: dict[str, list[tuple[int, float | None, float]]] = {}
    for shape in SHAPES:
        for title in PLOTTED:
            plotted = sorted((row for row in rows if (row.title, row.shape.name) == (title, shape)), key=rank)
            if len(plotted) > 1:
                found[f"{title}, {shape} shape"] = [
                    (row.shape.models, statistics.median(row.stock) if row.stock else None, statistics.median(row.floe))
                    for row in plotted
                ]
    return found


def rank(row: Row) -> tuple[int, int]:
    """Place of a row among rows of the same measure."""
    return row.shape.rank


def line(row: Row) -> str:
    """One line of the table: medians, and the median of the rounds' ratios."""
    size, rounds, floe = row.shape, len(row.floe), statistics.median(row.floe)
    if row.ratio is None:
        return f"| {row.title} | {size} | not measured | {floe:.2f} | | {rounds} |"
    return (
        f"| {row.title} | {size} | {statistics.median(row.stock):.2f} | {floe:.2f} | **{row.ratio:.2f}** | {rounds} |"
    )


def growth(rows: list[Row], title: str, shape: str) -> str | None:
    """Describe the growth to the largest product of a shape: the median of the rounds."""
    floe = {row.shape.models: row.floe for row in rows if (row.title, row.shape.name) == (title, shape)}
    least = GROWTH_FROM[shape]
    if least not in floe or max(floe) == least:
        return None
    times = statistics.median(large / small for large, small in zip(floe[max(floe)], floe[least], strict=False))
    return f"- {title}, {shape} shape: {max(floe)} models take {times:.1f} times what {least} take."


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

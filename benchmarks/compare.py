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
from products import copy_sample, generate_product, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

HERE = Path(__file__).parent
PACKAGES = ("floe-orchestrator-dagster", "dagster", "dagster-dbt", "dbt-core")
SAMPLE = 0
"""Size of the sample product."""

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
    """Sizes and rounds of one script.

    Attributes:
        script: The script.
        sizes: Models of the products.
        rounds: Number of rounds.
    """

    script: Script
    sizes: AbstractSet[int]
    rounds: int


@dataclass(frozen=True)
class Row:
    """A measure at one size.

    Attributes:
        title: What was measured.
        size: Models of the product.
        stock: Results per round for plain dagster-dbt, or for dbt; empty if not measured.
        floe: Results per round for this package.
    """

    title: str
    size: int
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
_PLUGIN: Script = ("load.py", "plugin")
_EVENTS: Script = ("events.py",)
_BUILD: Script = ("build.py", "all")
_ONE: Script = ("build.py", "one")
_CPU_OF_LOAD = "load, CPU after imports (s)"
_CPU_OF_EVENTS = "events of a whole build, own CPU (s)"
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
    Measure(_PLUGIN, "import", "import of floe-core's interface, and of the plugin on top (s)"),
    Measure(_EVENTS, "cpu", _CPU_OF_EVENTS),
    Measure(_BUILD, "first_node", "step's start to dbt's first node, wall (s)"),
    Measure(_BUILD, "wall", _WALL_OF_BUILD),
    Measure(_BUILD, "wall", "whole build, wall, beside `dbt build` alone (s)", "plain"),
    Measure(_ONE, "first_node", "one model: step's start to dbt's first node, wall (s)"),
    Measure(_ONE, "process", "one model: launch to end, wall (s)"),
)
PLOTTED = (_CPU_OF_LOAD, _MEMORY_OF_LOAD, _CPU_OF_EVENTS, _WALL_OF_BUILD)
"""Measures in the plots."""
GROWTH = (_CPU_OF_LOAD, _CPU_OF_EVENTS)
"""Measures whose growth from 500 models to the largest size is printed."""


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[SAMPLE, 500], help="models to load; 0 is the sample")
    parser.add_argument("--reload-sizes", type=int, nargs="*", help="models to load as a run worker; as --sizes")
    parser.add_argument("--event-sizes", type=int, nargs="*", default=[250], help="sizes to consume events of")
    parser.add_argument("--build-sizes", type=int, nargs="*", default=[50], help="sizes to build for real")
    parser.add_argument("--one-of", type=int, nargs="*", default=[], help="sizes to build one model of")
    parser.add_argument("--rounds", type=int, default=2, help="of loads")
    parser.add_argument("--event-rounds", type=int, default=1)
    parser.add_argument("--build-rounds", type=int, default=1)
    parser.add_argument("--one-rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    parser.add_argument("--add", action="store_true", help="keep what an earlier run has measured besides")
    arguments = parser.parse_args()
    asked = [
        Asked(_PLUGIN, {*arguments.sizes[:1]}, arguments.rounds),
        Asked(_LOAD, {*arguments.sizes}, arguments.rounds),
        Asked(
            _RELOAD,
            {*(arguments.sizes if arguments.reload_sizes is None else arguments.reload_sizes)},
            arguments.rounds,
        ),
        Asked(_EVENTS, {*arguments.event_sizes}, arguments.event_rounds),
        Asked(_ONE, {*arguments.one_of}, arguments.one_rounds),
        Asked(_BUILD, {*arguments.build_sizes}, arguments.build_rounds),
    ]
    known = {(row.title, row.size): row for row in (read(arguments.output) if arguments.add else [])}
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as name:
        for rows in measured(asked, Path(name)):
            known |= {(row.title, row.size): row for row in rows}
            print("\n".join(map(line, rows)), flush=True)
            write(list(known.values()), arguments.output)


def measured(asked: Sequence[Asked], directory: Path) -> Iterator[list[Row]]:
    """Measure all that is asked for, round by round; yields the rows that each measurement adds to."""
    sizes = sorted(set().union(*(one.sizes for one in asked)))
    products = {size: prepared(directory, size) for size in sizes}
    found: dict[tuple[Script, int, str], list[dict[str, float]]] = {}
    for number in range(max(one.rounds for one in asked)):
        for one in asked:
            for size in sorted(one.sizes) if number < one.rounds else ():
                for who in compared(one.script, size):
                    found.setdefault((one.script, size, who), []).append(measurement(one.script, who, products[size]))
                yield rows_of(found, one.script, size)


def prepared(directory: Path, size: int) -> Path:
    """Make a product, ready to be loaded and built."""
    artifacts = generate_product(directory, size) if size else copy_sample(directory)
    prepare(artifacts)
    return artifacts


def compared(script: Script, size: int) -> Iterable[str]:
    """Name who is measured, in turns."""
    beside = [measure.beside for measure in MEASURES if measure.script == script]
    return (*dict.fromkeys(() if script == _EVENTS and size > _STOCK_EVENTS else beside), "floe")


def rows_of(
    found: Mapping[tuple[Script, int, str], Sequence[Mapping[str, float]]], script: Script, size: int
) -> list[Row]:
    """Make a row of each measure of a script at one size."""
    return [
        Row(
            measure.title,
            size,
            [one[measure.key] for one in found.get((script, size, measure.beside), ())],
            [one[measure.key] for one in found[script, size, "floe"]],
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
    if not all(isinstance(row["floe"], list) for row in rows):
        raise SystemExit(f"{path} is of an older version, which kept no rounds: remove it, or leave --add out")
    return [Row(row["title"], row["size"], row["stock"], row["floe"]) for row in rows]


def write(rows: list[Row], directory: Path) -> None:
    """Write all that is known so far: a run that is stopped has written what it measured."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
    (directory / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    head = ["| | models | plain dagster-dbt | floe | ratio | rounds |", "|---|---|---|---|---|---|"]
    table = "\n".join([*head, *map(line, rows)])
    table += "\n\n" + "\n".join(filter(None, (growth(rows, title) for title in GROWTH)))
    said = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    (directory / "results.md").write_text(f"{table}\n\n{said}\n", encoding="utf-8")
    curves: dict[str, list[tuple[int, float | None, float]]] = {}
    for row in sorted(rows, key=lambda row: row.size):
        if row.size:
            stock = statistics.median(row.stock) if row.stock else None
            curves.setdefault(row.title, []).append((row.size, stock, statistics.median(row.floe)))
    (directory / "sizes.svg").write_text(
        draw_panels({title: curves.get(title, []) for title in PLOTTED}), encoding="utf-8"
    )


def line(row: Row) -> str:
    """One line of the table: medians, and the median of the rounds' ratios."""
    size, rounds, floe = row.size or "sample", len(row.floe), statistics.median(row.floe)
    if row.ratio is None:
        return f"| {row.title} | {size} | not measured | {floe:.2f} | | {rounds} |"
    return (
        f"| {row.title} | {size} | {statistics.median(row.stock):.2f} | {floe:.2f} | **{row.ratio:.2f}** | {rounds} |"
    )


def growth(rows: list[Row], title: str) -> str | None:
    """Describe the growth from 500 models to the largest product: the median of the rounds."""
    floe = {row.size: row.floe for row in rows if row.title == title}
    if 500 not in floe or max(floe) == 500:  # noqa: PLR2004  # the size to compare with
        return None
    times = statistics.median(large / small for large, small in zip(floe[max(floe)], floe[500], strict=False))
    return f"- {title}: {max(floe)} models take {times:.1f} times what 500 take."


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

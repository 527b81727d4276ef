"""A simulated month of a product: how many models its runs build under ``build: all`` and ``build: changed``.

    python benchmarks/month.py [MODELS]

The graph is that of a generated project (``real_shape.py``). The decisions are those of a run; dbt does not run. Runs
start every six hours. A tenth of the sources has new rows in each run, six tenths once a day, the others once a week.
Two models are edited on each working day.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from real_shape import LAYERS, Node, made_project

from floe_orchestrator_dagster.execution.reuse.decision import decide
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.knowledge import Known, column_version, read_codes, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from floe_orchestrator_dagster.execution.reuse.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.execution.reuse.records import State

RUNS_PER_DAY, DAYS, WEEKEND = 4, 30, (5, 6)
DAY = 86_400.0
EVERY_RUN, DAILY = 0.1, 0.7
EDITS_PER_DAY = 2


@dataclass
class Month:
    """A product, its records and its sources."""

    graph: BuildGraph
    layers: Mapping[str, str]
    waiting: Mapping[str, Waiting]
    random: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311  # the same numbers each time
    states: dict[str, State] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)

    def run(self, number: int) -> dict[str, str]:
        """Build what has changed; returns the reasons."""
        nodes = frozenset(self.layers)
        known = Known(
            fingerprints={node: str(self.code.get(node, 0)) for node in nodes},
            always={},
            states=self.states,
            versions={source: str(load) for source, load in self.loads.items()},
            test_versions={},
            test_records={},
            tests={},
            # New rows have the same columns.
            source_columns=dict.fromkeys(self.loads, ""),
            waiting=self.waiting,
            now=DAY + number * DAY / RUNS_PER_DAY,
        )
        built = dict(decide(self.graph, known, nodes, frozenset(), dict.fromkeys(nodes, True)).built)
        ids = {node: f"{number} {node}" for node in built}
        columns: dict[str, str | None] = {}
        new: dict[str, State] = {}
        for node in [node for node in self.layers if node in built]:
            columns[node] = column_version(self.graph, known, node, columns)
            inputs = read_inputs(self.graph, known, node, ids)
            fingerprint = known.fingerprints[node]
            codes = read_codes(known, inputs, ids.keys() - {node})
            new[node] = BuildRecord(ids[node], fingerprint, "", inputs, 0, known.now, columns[node], codes)
        self.states.update(new)
        return built

    def change(self, number: int) -> None:
        """Load sources and edit models before a run."""
        day, slot = divmod(number, RUNS_PER_DAY)
        for row, source in enumerate(self.loads):
            share = row / len(self.loads)
            is_daily = share < DAILY and row % RUNS_PER_DAY == slot
            is_weekly = row % (RUNS_PER_DAY * 7) == number % (RUNS_PER_DAY * 7)
            self.loads[source] += share < EVERY_RUN or is_daily or is_weekly
        if slot == 0 and day % 7 not in WEEKEND:
            for node in self.random.sample(list(self.layers), EDITS_PER_DAY):
                self.code[node] = self.code.get(node, 0) + 1


def simulated(models: int, *, tolerance: float) -> list[int]:
    """Return how many models each run of a month builds, without the first one.

    Args:
        models: Size of the project.
        tolerance: Seconds that models which are not in staging wait for new data.
    """
    made = made_project(models)
    names = {id(node): f"model.p.{node.file}" for node in made.models}
    parents = {
        names[id(node)]: [
            names.get(id(read), f"seed.p.{read.name}")
            if isinstance(read, Node)
            else f"source.p.{read.system}.{read.name}"
            for read in node.parents
        ]
        for node in made.models
    }
    layers = {names[id(node)]: node.layer for node in made.models if not node.is_ephemeral}
    kinds = {
        names[id(node)]: "ephemeral" if node.is_ephemeral else "view" if node.layer == "staging" else "table"
        for node in made.models
    }
    sources = {read: 0 for reads in parents.values() for read in reads if read.startswith("source.")}
    kinds |= dict.fromkeys(sources, "source")
    seeds = {read: "seed" for reads in parents.values() for read in reads if read.startswith("seed.")}
    graph = BuildGraph(parents | dict.fromkeys(seeds, ()), kinds | seeds, keeps_views=True)
    waits = {node: Waiting(tolerance) for node, layer in layers.items() if layer != next(iter(LAYERS)) and tolerance}
    month = Month(graph, dict.fromkeys(seeds, "seeds") | layers, waits, loads=sources)
    built = []
    for number in range(DAYS * RUNS_PER_DAY + 1):
        built.append(sum(node.startswith("model.") for node in month.run(number)))
        month.change(number)
    return built[1:]


def main() -> None:
    """Print the number of built models, and their share of those under ``build: all``."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    project = made_project(size)
    every = sum(not node.is_ephemeral for node in project.models) * DAYS * RUNS_PER_DAY
    print(f"{size} models, {DAYS * RUNS_PER_DAY} runs: build: all builds {every}")
    for title, tolerance in (("build: changed", 0.0), ("with lag_tolerance: 1d behind staging", DAY)):
        built = sum(simulated(size, tolerance=tolerance))
        print(f"{title}: {built} ({built / every:.0%})")


if __name__ == "__main__":
    main()

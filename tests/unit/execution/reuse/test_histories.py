"""Random histories of a simulated warehouse: after each run, the rows are those of a full build.

The content of a table is its code and the content of all that it read; a view is evaluated when it is read.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.reuse.decision import BuildGraph, Decision, Known, decide, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, State, Unknown

Content: TypeAlias = Any
SOURCES = ("source.p.s.one", "source.p.s.two")


@dataclass
class Project:
    """Nodes in topological order, and tests of one or two of them."""

    kinds: dict[str, str] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tests: dict[str, int] = field(default_factory=dict)

    @property
    def graph(self) -> BuildGraph:
        """The graph of nodes, tests and sources."""
        return BuildGraph(self.parents, {**self.kinds, **dict.fromkeys(SOURCES, "source")})

    def fingerprint(self, node: str) -> str:
        """A hash of a node's code and of the ephemeral models that it reads."""
        inlined = [self.fingerprint(parent) for parent in self.parents[node] if self.kinds.get(parent) == "ephemeral"]
        return repr((self.kinds[node], self.code[node], self.parents[node], inlined))

    @property
    def built(self) -> list[str]:
        """The nodes with a table or view."""
        return [node for node, kind in self.kinds.items() if kind != "ephemeral"]


@dataclass
class Warehouse:
    """Tables with their content, views with their definition, and the rows of sources."""

    sources: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    tables: dict[str, Content] = field(default_factory=dict)
    views: dict[str, tuple[int, tuple[Content, ...]]] = field(default_factory=dict)

    def build(self, project: Project, node: str) -> None:
        """Create the table or view of a node."""
        self.tables.pop(node, None)
        self.views.pop(node, None)
        if project.kinds[node] == "view":
            self.views[node] = (project.code[node], tuple(self._compiled(project, p) for p in project.parents[node]))
        else:
            self.tables[node] = (
                project.code[node],
                *(self.read(self._compiled(project, p)) for p in project.parents[node]),
            )

    def _compiled(self, project: Project, read: str) -> Content:
        """Return the query in which an ephemeral model is inlined."""
        if project.kinds.get(read) != "ephemeral":
            return read
        return (project.code[read], tuple(self._compiled(project, parent) for parent in project.parents[read]))

    def read(self, query: Content) -> Content:
        """Evaluate a table, view, source or inlined query."""
        if isinstance(query, tuple):
            return (query[0], *map(self.read, query[1]))
        if query in self.sources:
            return self.sources[query]
        if query in self.views:
            return self.read(self.views[query])
        return self.tables.get(query, "no table")

    def passes(self, project: Project, test: str) -> bool:
        """Evaluate a test."""
        content = repr([self.read(self._compiled(project, read)) for read in project.parents[test]])
        return (sum(map(ord, content)) + project.tests[test]) % 5 != 0


@dataclass
class Simulation:
    """A project, its warehouse and what runs have recorded."""

    random: Random
    project: Project = field(default_factory=Project)
    warehouse: Warehouse = field(default_factory=Warehouse)
    states: dict[str, State] = field(default_factory=dict)
    test_records: dict[str, CheckRecord] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    runs: int = 0
    reused: int = 0
    kept: int = 0

    def create(self) -> None:
        """Create a random project."""
        for number in range(self.random.randint(1, 7)):
            self.add_node(f"model.p.m{number}")
        for number in range(self.random.randint(0, 4)):
            nodes = self.project.built
            if nodes:
                read = self.random.sample(nodes, min(len(nodes), self.random.randint(1, 2)))
                self.project.parents[f"test.p.t{number}.x"] = tuple(read)
                self.project.tests[f"test.p.t{number}.x"] = self.random.randint(0, 9)

    def add_node(self, node: str) -> None:
        """Add a node that reads random earlier ones."""
        project = self.project
        before = [*SOURCES, *list(project.kinds)[: list(project.kinds).index(node) if node in project.kinds else None]]
        project.kinds[node] = self.random.choice(["table", "table", "view", "ephemeral"])
        project.code[node] = self.random.randint(0, 3)
        project.parents[node] = tuple(self.random.sample(before, self.random.randint(0, min(3, len(before)))))

    def change(self) -> None:
        """Change code, the graph, rows, a table or a test."""
        project, random = self.project, self.random
        node = random.choice(list(project.kinds))
        kind = random.randint(0, 6)
        if kind == 0:
            project.code[node] = random.randint(0, 3)
        elif kind == 1 and not any(node in reads for test, reads in project.parents.items() if test in project.tests):
            self.add_node(node)
        elif kind in {2, 3}:
            self.write_source()
        elif kind == 4:
            self.warehouse.tables.pop(node, None)
            self.warehouse.views.pop(node, None)
        elif kind == 5 and project.tests:
            project.tests[random.choice(list(project.tests))] = random.randint(0, 9)

    def write_source(self) -> None:
        """Write a source, perhaps with rows that it had before; the time of a file changes in any case."""
        source = self.random.choice(SOURCES)
        self.warehouse.sources[source] = self.random.randint(0, 4)
        self.writes[source] += 1

    def decide(self, nodes: set[str], tests: set[str]) -> tuple[Decision, Known]:
        """Decide as a step does."""
        project = self.project
        known = Known(
            fingerprints={node: project.fingerprint(node) for node in project.built},
            always={},
            states=dict(self.states),
            versions={source: f"v{self.writes[source]}" for source in SOURCES},
            test_versions={test: str(code) for test, code in project.tests.items()},
            test_records=dict(self.test_records),
            tests={test: frozenset(project.parents[test]) for test in project.tests},
        )
        existing = {
            node: node in (self.warehouse.views if project.kinds[node] == "view" else self.warehouse.tables)
            for node in project.built
        }
        return decide(project.graph, known, nodes, tests, existing), known

    def run(self) -> None:
        """Run some nodes and their tests, with failures, kills, other writers and changing sources."""
        random, project = self.random, self.project
        nodes = {node for node in project.built if random.random() < 0.8}
        tests = {test for test in project.tests if random.random() < 0.8}
        decision, known = self.decide(nodes, tests)
        is_calm = random.random() < 0.6
        before = deepcopy(self.warehouse)
        done = self._execute(decision, known, is_calm=is_calm)
        self.runs += 1
        if done and is_calm:
            self.compare(before, nodes, tests)
            self.reused += len(decision.reused)
            self.kept += len(decision.kept)

    def _execute(self, decision: Decision, known: Known, *, is_calm: bool) -> bool:
        random, project, build_ids = self.random, self.project, dict[str, str]()
        records_builds = is_calm or random.random() < 0.7
        for node in decision.built:
            self.states[node] = Unknown("started")
        for test in decision.run:
            self.test_records.pop(test, None)
        failed: set[str] = set()
        for node in [node for node in project.built if node in decision.built]:
            event = 1.0 if is_calm else random.random()
            if event < 0.1 or set(project.graph.inputs(node)) & failed:
                failed.add(node)
                continue
            if event < 0.2:
                self.write_source()
            self.warehouse.build(project, node)
            if event > 0.9 and not is_calm:  # killed after the commit
                return False
            build_ids[node] = f"{self.runs} {node}"
            if records_builds:
                inputs = read_inputs(project.graph, known, node, build_ids)
                self.states[node] = BuildRecord(build_ids[node], known.fingerprints[node], "", inputs, 0)
        if records_builds:
            self._test({test for test in decision.run if not project.graph.inputs(test) & failed}, known, build_ids)
        return not failed and records_builds

    def _test(self, tests: set[str], known: Known, build_ids: dict[str, str]) -> None:
        for test in tests:
            passed = self.warehouse.passes(self.project, test)
            inputs = read_inputs(self.project.graph, known, test, build_ids)
            self.test_records[test] = CheckRecord(passed, passed, known.test_versions[test], inputs, "")

    def compare(self, before: Warehouse, nodes: set[str], tests: set[str]) -> None:
        """Compare with a full build of the same nodes."""
        for node in [node for node in self.project.built if node in nodes]:
            before.build(self.project, node)
        for node in nodes:
            assert self.warehouse.read(node) == before.read(node), node
        for test in tests:
            assert self.test_records[test].passed == before.passes(self.project, test), test


def simulate(random: Random, steps: int) -> Simulation:
    """Run a random history."""
    simulation = Simulation(random)
    simulation.create()
    for _ in range(steps):
        if random.random() < 0.5:
            simulation.change()
        else:
            simulation.run()
    return simulation


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rows_are_those_of_a_full_build(random: Random) -> None:
    simulate(random, 25)


def test_histories_reuse_tables_and_results_of_tests() -> None:
    simulations = [simulate(Random(seed), 40) for seed in range(200)]  # noqa: S311  # not for secrets

    assert sum(simulation.reused for simulation in simulations) > 500
    assert sum(simulation.kept for simulation in simulations) > 100


def test_oracle_finds_a_decision_that_ignores_views() -> None:
    class Careless(Simulation):
        def decide(self, nodes: set[str], tests: set[str]) -> tuple[Decision, Known]:
            decision, known = super().decide(nodes, tests)
            code_only = {
                node: why
                for node, why in decision.built.items()
                if not why.startswith(("m", "source", "one", "two", "s."))
            }
            return replace(decision, built=code_only, reused=dict.fromkeys(nodes - code_only.keys(), "")), known

    found = 0
    for seed in range(100):
        simulation = Careless(Random(seed))  # noqa: S311  # not for secrets
        simulation.create()
        try:
            for _ in range(30):
                simulation.change()
                simulation.run()
        except AssertionError:
            found += 1
    assert found > 20

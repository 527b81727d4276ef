"""Random histories of a simulated warehouse: after each run, the rows are those of a full build.

The content of a table is its code and the content of all that it read; a view is evaluated when it is read, and broken
if the columns of what it reads are not those with which it was created. Sources have a newest row, a number of rows and
columns. Blind spots are left out: rows that are added and removed again while a run reads them.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.reuse.decision import (
    Decision,
    Known,
    column_version,
    decide,
    read_codes,
    read_inputs,
)
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, State, Unknown
from floe_orchestrator_dagster.execution.reuse.waiting import NOT_ALL_CHANGED, WAITS, Waiting

Content: TypeAlias = Any
SOURCES = ("source.p.s.one", "source.p.s.two")


@dataclass
class Project:
    """Nodes in topological order, and tests of one or two of them."""

    kinds: dict[str, str] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tests: dict[str, int] = field(default_factory=dict)

    waiting: dict[str, Waiting] = field(default_factory=dict)
    keeps_views: bool = True

    @property
    def graph(self) -> BuildGraph:
        """The graph of nodes, tests and sources."""
        kinds = {**self.kinds, **dict.fromkeys(SOURCES, "source")}
        return BuildGraph(self.parents, kinds, keeps_views=self.keeps_views)

    def fingerprint(self, node: str) -> str:
        """A hash of a node's code and of the ephemeral models that it reads."""
        inlined = [self.fingerprint(parent) for parent in self.parents[node] if self.kinds.get(parent) == "ephemeral"]
        return repr((self.kinds[node], self.code[node], self.parents[node], inlined))

    @property
    def built(self) -> list[str]:
        """The nodes with a table or view."""
        return [node for node, kind in self.kinds.items() if kind != "ephemeral"]


@dataclass
class Source:
    """The rows and columns of a source."""

    newest: int = 0
    rows: int = 5
    columns: int = 0

    @property
    def version(self) -> str:
        """The data version that is observed."""
        return repr((self.newest, self.rows, self.columns))


@dataclass
class View:
    """A view: its code, what it reads, and the columns of these tables when it was created."""

    code: int
    reads: tuple[Content, ...]
    columns: Content
    columns_read: Content


@dataclass
class Warehouse:
    """Tables with their content and columns, views, and sources."""

    keeps_views: bool = True
    sources: dict[str, Source] = field(default_factory=lambda: {name: Source() for name in SOURCES})
    tables: dict[str, Content] = field(default_factory=dict)
    columns: dict[str, Content] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)

    def build(self, project: Project, node: str) -> None:
        """Create the table or view of a node."""
        reads = tuple(self._compiled(project, parent) for parent in project.parents[node])
        columns_read = tuple(map(self._columns_of, reads))
        content = (project.code[node], *map(self.read, reads))
        self.drop(node)
        if project.kinds[node] == "view":
            self.views[node] = View(project.code[node], reads, (project.code[node] % 2, columns_read), columns_read)
        else:
            self.tables[node] = content
            self.columns[node] = (project.code[node] % 2, columns_read)

    def can_build(self, project: Project, node: str) -> bool:
        """Return whether all that a node reads exists and works."""
        content = repr([self.read(self._compiled(project, parent)) for parent in project.parents[node]])
        return "no table" not in content and "broken" not in content

    def drop(self, node: str) -> None:
        """Drop a table or view, and in some databases the views that read it."""
        self.tables.pop(node, None)
        self.views.pop(node, None)
        if not self.keeps_views:
            for name, view in list(self.views.items()):
                if name in self.views and repr(node) in repr(view.reads):
                    self.drop(name)

    def _compiled(self, project: Project, read: str) -> Content:
        """Return the query in which an ephemeral model is inlined."""
        if project.kinds.get(read) != "ephemeral":
            return read
        return (project.code[read], tuple(self._compiled(project, parent) for parent in project.parents[read]))

    def _columns_of(self, query: Content) -> Content:
        if isinstance(query, tuple):
            return (query[0] % 2, *map(self._columns_of, query[1]))
        if query in self.sources:
            return self.sources[query].columns
        return self.views[query].columns if query in self.views else self.columns.get(query)

    def read(self, query: Content) -> Content:
        """Evaluate a table, view, source or inlined query."""
        if isinstance(query, tuple):
            return (query[0], *map(self.read, query[1]))
        if query in self.sources:
            return self.sources[query].version
        view = self.views.get(query)
        if view is None:
            return self.tables.get(query, "no table")
        if tuple(map(self._columns_of, view.reads)) != view.columns_read:
            return "broken"
        return (view.code, *map(self.read, view.reads))

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
    unknown: frozenset[str] = frozenset()
    now: float = 100.0
    runs: int = 0
    reused: int = 0
    kept: int = 0
    held: int = 0
    views_kept: int = 0

    def create(self) -> None:
        """Create a random project in a database that keeps or drops views, with sources whose data may be unknown."""
        self.project.keeps_views = self.warehouse.keeps_views = self.random.random() < 0.7
        self.unknown = frozenset(source for source in SOURCES if self.random.random() < 0.15)
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
        if self.random.random() < 0.3:
            project.waiting[node] = Waiting(self.random.choice([0, 2, 5]), needs_all=self.random.random() < 0.5)

    def change(self) -> None:
        """Change code, the graph, rows, a table or a test."""
        project, random = self.project, self.random
        node = random.choice(list(project.kinds))
        kind = random.randint(0, 7)
        self.now += random.random()
        if kind == 0:
            project.code[node] = random.randint(0, 3)
        elif kind == 1 and not any(node in reads for test, reads in project.parents.items() if test in project.tests):
            self.add_node(node)
        elif kind in {2, 3}:
            self.write_source()
        elif kind == 4:
            self.warehouse.drop(node)
        elif kind == 5 and project.tests:
            project.tests[random.choice(list(project.tests))] = random.randint(0, 9)
        elif kind == 6:
            self.warehouse.sources[random.choice(SOURCES)].columns ^= 1

    def write_source(self, *, only_new: bool = False) -> None:
        """Add new rows, late rows or remove rows."""
        source = self.warehouse.sources[self.random.choice(SOURCES)]
        kind = 0 if only_new else self.random.randint(0, 2)
        source.newest += kind == 0
        source.rows += -1 if kind == 2 else 1

    def decide(self, nodes: set[str], tests: set[str]) -> tuple[Decision, Known]:
        """Decide as a step does."""
        project = self.project
        known = Known(
            fingerprints={node: project.fingerprint(node) for node in project.built},
            always={},
            states=dict(self.states),
            versions={one: self.warehouse.sources[one].version for one in SOURCES if one not in self.unknown},
            test_versions={test: str(code) for test, code in project.tests.items()},
            test_records=dict(self.test_records),
            tests={test: frozenset(project.parents[test]) for test in project.tests},
            source_columns={one: str(self.warehouse.sources[one].columns) for one in SOURCES},
            waiting=project.waiting,
            now=self.now,
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
        if not project.keeps_views:  # a partial run drops views that it does not select
            nodes = set(project.built)
        tests = {test for test in project.tests if random.random() < 0.8}
        decision, known = self.decide(nodes, tests)
        is_calm = random.random() < 0.6
        before = deepcopy(self.warehouse)
        done = self._execute(decision, known, is_calm=is_calm)
        self.runs += 1
        if done and is_calm:
            self.compare(before, nodes, tests, decision)
            views = [node for node in decision.reused if project.kinds[node] == "view"]
            self.views_kept += sum(bool(project.graph.inputs(view) & decision.built.keys()) for view in views)
            self.reused += len(decision.reused)
            self.kept += len(decision.kept)

    def _execute(self, decision: Decision, known: Known, *, is_calm: bool) -> bool:
        random, project, build_ids = self.random, self.project, dict[str, str]()
        columns: dict[str, str | None] = {}
        records_builds = is_calm or random.random() < 0.7
        for node in decision.built:
            self.states[node] = Unknown("started")
        for test in decision.run:
            self.test_records.pop(test, None)
        failed: set[str] = set()
        for node in [node for node in project.built if node in decision.built]:
            event = 1.0 if is_calm else random.random()
            if event < 0.1 or set(project.graph.inputs(node)) & failed or not self.warehouse.can_build(project, node):
                failed.add(node)
                continue
            if event < 0.2:
                self.write_source(only_new=True)
            self.warehouse.build(project, node)
            if event > 0.9 and not is_calm:  # killed after the commit
                return False
            build_ids[node] = f"{self.runs} {node}"
            columns[node] = column_version(project.graph, known, node, columns)
            if records_builds:
                inputs = read_inputs(project.graph, known, node, build_ids)
                code = known.fingerprints[node]
                codes = read_codes(known, inputs, build_ids.keys() - {node})
                self.states[node] = BuildRecord(build_ids[node], code, "", inputs, 0, self.now, columns[node], codes)
        if records_builds:
            self._test({test for test in decision.run if not project.graph.inputs(test) & failed}, known, build_ids)
        return not failed and records_builds

    def _test(self, tests: set[str], known: Known, build_ids: dict[str, str]) -> None:
        for test in tests:
            passed = self.warehouse.passes(self.project, test)
            inputs = read_inputs(self.project.graph, known, test, build_ids)
            self.test_records[test] = CheckRecord(passed, passed, known.test_versions[test], inputs, "")

    def compare(self, before: Warehouse, nodes: set[str], tests: set[str], decision: Decision) -> None:
        """Compare with a full build of the same nodes, without those that wait for new data."""
        held = {node for node, reason in decision.reused.items() if reason in {WAITS, NOT_ALL_CHANGED}}
        self.held += len(held)
        for node in [node for node in self.project.built if node in nodes - held]:
            before.build(self.project, node)
        for node in nodes:
            assert self.warehouse.read(node) == before.read(node), node
        for test in tests:
            assert self.test_records[test].passed == before.passes(self.project, test), test
        for node in held:
            waiting, state = self.project.waiting[node], self.states[node]
            assert isinstance(state, BuildRecord)
            assert self.warehouse.tables[node][0] == self.project.code[node]
            assert waiting.needs_all or self.now - state.time < waiting.seconds


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
    assert sum(simulation.held for simulation in simulations) > 50
    assert sum(simulation.views_kept for simulation in simulations) > 20


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

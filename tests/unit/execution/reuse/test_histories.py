"""Random histories of a simulated warehouse: after each run, the rows are those of a full build.

The content of a table is its code and the content of all that it read. An incremental model keeps what it had before. A
view is evaluated when it is read, and broken if the columns of what it reads are not those with which it was created.
Sources have a newest row, a number of rows and columns. Some nodes also read a table that dbt does not know.

A history has edits of models, seeds, tests, materializations and the graph; new, late and removed rows of sources, also
while a run reads them; failures, kills after a commit, runs whose builds do not count, runs with ``full_refresh``;
dropped and replaced tables, and restored backups. Left out are

- macros and variables, which only change the fingerprint: see ``tests/unit/product/test_fingerprint_histories.py``
- partitions: see ``test_partition_histories.py``
- the documented blind spots: rows that are added and removed again while a run reads them, rows that are changed by
  hand in a table of the same columns, late rows without another version of the source, and a database that was written
  more often than the one that it replaces.

``HISTORIES=2000`` runs that many histories instead of 200.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.reuse.decision import Decision, decide
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.knowledge import Known, column_version, read_codes, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, State, Unknown
from floe_orchestrator_dagster.execution.reuse.waiting import NOT_ALL_CHANGED, WAITS, Waiting

Content: TypeAlias = Any
SOURCES = ("source.p.s.one", "source.p.s.two")
KINDS = ("table", "table", "table", "view", "view", "ephemeral", "incremental", "seed")
HISTORIES = int(os.environ.get("HISTORIES", "200"))


@dataclass
class Project:
    """Nodes in topological order, and tests of one or two of them."""

    kinds: dict[str, str] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tests: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """Nodes that read a table that is not in the graph: they are always built."""

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
        return repr((self.kinds[node], self.code[node], self.parents[node], inlined, node in self.hidden))

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

    code: tuple[int, str]
    reads: tuple[Content, ...]
    columns: Content
    columns_read: Content
    reads_hidden: bool


@dataclass
class Warehouse:
    """Tables with their content and columns, views, and sources."""

    keeps_views: bool = True
    sources: dict[str, Source] = field(default_factory=lambda: {name: Source() for name in SOURCES})
    tables: dict[str, Content] = field(default_factory=dict)
    columns: dict[str, Content] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    hidden: int = 0
    written: int = 0

    def build(self, project: Project, node: str, rows: str = "", *, refresh: bool = False) -> None:
        """Create or fill the table or view of a node, perhaps with other rows than usual."""
        reads = tuple(self._compiled(project, parent) for parent in project.parents[node])
        columns_read = tuple(map(self._columns_of, reads))
        code, reads_hidden = (project.code[node], rows), node in project.hidden
        content = (code, *map(self.read, reads), *([self.hidden] if reads_hidden else []))
        columns = (project.code[node] % 2, columns_read)
        before = None if refresh or project.kinds[node] != "incremental" else self.tables.get(node)
        if before is not None:
            kept = before[1] if before[0] == "rows of" else (before,)
            self.tables[node] = ("rows of", tuple(sorted({*kept, content}, key=repr)))
        else:
            self.drop(node)
            if project.kinds[node] == "view":
                self.views[node] = View(code, reads, columns, columns_read, reads_hidden)
            else:
                is_kept = project.kinds[node] == "incremental"
                self.tables[node] = ("rows of", (content,)) if is_kept else content
                self.columns[node] = columns
        self.written += 1

    def replace(self, node: str) -> None:
        """Replace a table with one of other columns, or a view with a table, as somebody else does."""
        self.drop(node)
        self.tables[node], self.columns[node] = "replaced", ("replaced", self.written)

    def shape(self, node: str) -> Content:
        """Return type and columns of a table or view; None if it does not exist."""
        if node in self.views:
            return ("view", self.views[node].columns)
        return ("table", self.columns[node]) if node in self.tables else None

    def can_build(self, project: Project, node: str) -> bool:
        """Return whether all that a node reads exists and works."""
        content = repr([self.read(self._compiled(project, parent)) for parent in project.parents[node]])
        return "no table" not in content and "broken" not in content

    def drop(self, node: str) -> None:
        """Drop a table or view, and in some databases the views that read it."""
        self.written += 1
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
        return (view.code, *map(self.read, view.reads), *([self.hidden] if view.reads_hidden else []))

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
    shapes: dict[str, tuple[str, Content]] = field(default_factory=dict)
    backup: Warehouse | None = None
    written: int = 0
    epoch: int = 0
    unknown: frozenset[str] = frozenset()
    now: float = 100.0
    runs: int = 0
    reused: int = 0
    kept: int = 0
    held: int = 0
    views_kept: int = 0
    restored: int = 0
    refreshed: int = 0

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
        project.kinds[node] = self.random.choice(KINDS)
        project.code[node] = self.random.randint(0, 3)
        parents = self.random.sample(before, self.random.randint(0, min(3, len(before))))
        project.parents[node] = () if project.kinds[node] == "seed" else tuple(parents)
        project.hidden.discard(node)
        if self.random.random() < 0.1 and project.kinds[node] in {"table", "view", "incremental"}:
            project.hidden.add(node)
        if self.random.random() < 0.3:
            project.waiting[node] = Waiting(self.random.choice([0, 2, 5]), needs_all=self.random.random() < 0.5)

    def change(self) -> None:
        """Change code, the graph, rows, a table or a test, or restore a backup."""
        project, random = self.project, self.random
        node = random.choice(list(project.kinds))
        kind, written = random.randint(0, 10), self.warehouse.written
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
        elif kind > 6:  # the others
            self.change_database(kind, node)
        if written < self.written:  # a restored database stays older than the current one was
            self.warehouse.written = min(self.warehouse.written, written)

    def change_database(self, kind: int, node: str) -> None:
        """Change a hidden table, replace a table, or restore a backup."""
        if kind == 7:
            self.warehouse.hidden += 1
        elif kind == 8 and self.project.kinds[node] != "ephemeral":
            self.warehouse.replace(node)
        elif kind == 9:
            self.backup = deepcopy(self.warehouse)
        elif kind == 10 and self.backup is not None:
            # The sources are in another database.
            restored = replace(deepcopy(self.backup), sources=self.warehouse.sources, hidden=self.warehouse.hidden)
            self.restored += restored.tables != self.warehouse.tables
            self.warehouse = restored

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
            always=dict.fromkeys(project.hidden, "it reads a hidden table"),
            states={node: self._state(node) for node in self.states},
            versions={one: self.warehouse.sources[one].version for one in SOURCES if one not in self.unknown},
            test_versions={test: str(code) for test, code in project.tests.items()},
            test_records=dict(self.test_records),
            tests={test: frozenset(project.parents[test]) for test in project.tests},
            source_columns={one: str(self.warehouse.sources[one].columns) for one in SOURCES},
            waiting=project.waiting,
            now=self.now,
        )
        existing = {node: self._exists(node) for node in project.built}
        return decide(project.graph, known, nodes, tests, existing), known

    def _state(self, node: str) -> State:
        state = self.states[node]
        is_elsewhere = isinstance(state, BuildRecord) and state.place != str(self.epoch)
        return Unknown("it was built in another place") if is_elsewhere else state

    def _exists(self, node: str) -> bool | None:
        """Look up a table as a step does: it must be as the end of the run found it that built it last."""
        shape, state = self.warehouse.shape(node), self.states.get(node)
        if shape is None or shape[0] != ("view" if self.project.kinds[node] == "view" else "table"):
            return False
        build_id, known = self.shapes.get(node, ("", None))
        return known == shape if isinstance(state, BuildRecord) and build_id == state.build_id else None

    def run(self) -> None:
        """Run some nodes and their tests, with failures, kills, other writers and changing sources."""
        random, project = self.random, self.project
        if self.warehouse.written < self.written:  # an older database has replaced it
            self.epoch, self.written = self.epoch + 1, self.warehouse.written
        nodes = {node for node in project.built if random.random() < 0.8}
        if not project.keeps_views:  # a partial run drops views that it does not select
            nodes = set(project.built)
        tests = {test for test in project.tests if random.random() < 0.8}
        decision, known = self.decide(nodes, tests)
        refresh = random.random() < 0.1
        if refresh:
            decision = Decision(dict.fromkeys(nodes, "full_refresh"), {}, dict.fromkeys(tests, "full_refresh"), {})
        is_calm = random.random() < 0.6
        before = deepcopy(self.warehouse)
        done = self._execute(decision, known, is_calm=is_calm, refresh=refresh)
        self.runs += 1
        self.refreshed += refresh
        if done and is_calm:
            self.compare(before, nodes, tests, decision, refresh=refresh)
            views = [node for node in decision.reused if project.kinds[node] == "view"]
            self.views_kept += sum(bool(project.graph.inputs(view) & decision.built.keys()) for view in views)
            self.reused += len(decision.reused)
            self.kept += len(decision.kept)

    def _execute(self, decision: Decision, known: Known, *, is_calm: bool, refresh: bool) -> bool:
        random, project, build_ids = self.random, self.project, dict[str, str]()
        columns: dict[str, str | None] = {}
        counts = is_calm or random.random() < 0.7
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
            self.warehouse.build(project, node, "" if counts else f"vars {self.runs}", refresh=refresh)
            if event > 0.9 and not is_calm:  # killed after the commit
                return False
            build_ids[node] = f"{self.runs} {node}"
            is_cumulative = project.kinds[node] in {"incremental", "seed"}
            columns[node] = build_ids[node] if is_cumulative else column_version(project.graph, known, node, columns)
            if counts:
                inputs = read_inputs(project.graph, known, node, build_ids)
                code, place = known.fingerprints[node], str(self.epoch)
                codes = read_codes(known, inputs, build_ids.keys() - {node})
                self.states[node] = BuildRecord(build_ids[node], code, place, inputs, 0, self.now, columns[node], codes)
        if counts:
            self._test({test for test in decision.run if not project.graph.inputs(test) & failed}, known, build_ids)
        self._store_shapes(build_ids)
        self.written = self.warehouse.written
        return not failed and counts

    def _store_shapes(self, build_ids: dict[str, str]) -> None:
        """Store the columns of tables that read only tables that are as their last build left them."""
        inputs = self.project.graph.inputs
        read = frozenset[str]().union(*map(inputs, build_ids)) - build_ids.keys() - {*SOURCES}
        doubtful = {node for node in read if not self._exists(node)}
        for node, build_id in build_ids.items():
            if inputs(node) & doubtful:
                doubtful.add(node)
            else:
                self.shapes[node] = (build_id, self.warehouse.shape(node))

    def _test(self, tests: set[str], known: Known, build_ids: dict[str, str]) -> None:
        for test in tests:
            passed = self.warehouse.passes(self.project, test)
            inputs = read_inputs(self.project.graph, known, test, build_ids)
            self.test_records[test] = CheckRecord(passed, passed, known.test_versions[test], inputs, "")

    def compare(
        self, before: Warehouse, nodes: set[str], tests: set[str], decision: Decision, *, refresh: bool
    ) -> None:
        """Compare with a full build of the same nodes, without those that wait for new data."""
        held = {node for node, reason in decision.reused.items() if reason in {WAITS, NOT_ALL_CHANGED}}
        self.held += len(held)
        for node in [node for node in self.project.built if node in nodes - held]:
            before.build(self.project, node, refresh=refresh)
        for node in nodes:
            assert self.warehouse.read(node) == before.read(node), node
        for test in tests:
            assert self.test_records[test].passed == before.passes(self.project, test), test
        for node in held:
            waiting, state = self.project.waiting[node], self.states[node]
            assert isinstance(state, BuildRecord)
            assert state.fingerprint == self.project.fingerprint(node)
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


@settings(max_examples=HISTORIES, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rows_are_those_of_a_full_build(random: Random) -> None:
    simulate(random, 25)


def test_histories_reuse_tables_and_results_of_tests() -> None:
    simulations = [simulate(Random(seed), 40) for seed in range(200)]  # noqa: S311  # not for secrets

    assert sum(simulation.reused for simulation in simulations) > 500
    assert sum(simulation.kept for simulation in simulations) > 100
    assert sum(simulation.held for simulation in simulations) > 50
    assert sum(simulation.views_kept for simulation in simulations) > 20
    assert sum(simulation.restored for simulation in simulations) > 50
    assert sum(simulation.refreshed for simulation in simulations) > 100


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

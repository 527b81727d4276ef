"""Random histories of a partitioned table: after each run of partitions, its rows are those of a run that builds them.

A table has rows per partition. Their content is the code, what was read, and for models that read variables also the
window of the run. A build replaces the rows of its partitions, or the whole table. There are several kinds of models:

- those that declare that builds of partitions are disjoint,
- those without the declaration, whose builds also write rows of the next partition,
- those that have the declaration wrongly at first: what happens until it is removed is a documented blind spot,
- tables and views that are replaced as a whole, and
- views that choose what they read by the window: dbt's manifest does not have these inputs.

Another table reads all rows, and a view has the columns that the partitioned table had when the view was created.

A history has runs of one partition and of ranges, also with ``build: all``, edits of code, new data of a source that
can return to an earlier version, builds of a table that it reads, runs that do not count, runs with ``full_refresh``,
two runs at the same time, failures, kills after a commit, builds whose columns nobody has looked up, dropped tables,
and builds without partitions.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.execution.reuse import knowledge, partitions
from floe_orchestrator_dagster.execution.reuse.decision import decide
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.knowledge import Known, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, State, Unknown
from unit.execution.reuse.test_histories import HISTORIES

if TYPE_CHECKING:
    from collections.abc import Sequence

Content: TypeAlias = Any
Days: TypeAlias = tuple[str, ...]
DAYS = ("mon", "tue", "wed")
TABLE, UP, READER, VIEW, SOURCE = "model.p.table", "model.p.up", "model.p.reader", "model.p.view", "source.p.s.one"
PARENTS = {TABLE: (SOURCE, UP), UP: (), READER: (TABLE,), VIEW: (TABLE,)}
DISJOINT, OVERLAPPING, WITHDRAWN, REPLACED, OF_VIEW, CHOOSING = KINDS = (
    *("disjoint", "overlapping", "withdrawn", "replaced", "view", "choosing view"),
)
MATERIALIZED = {DISJOINT: "incremental", OVERLAPPING: "incremental", WITHDRAWN: "incremental", REPLACED: "table"}


@dataclass
class Shop:
    """A partitioned table, what it reads, its readers, and the records of runs."""

    random: Random
    kind: str = ""
    reads_window: bool = False
    is_declared: bool = False
    rows: dict[str, Content] | None = None
    columns: Content = None
    reader: Content = None
    view: Content = None
    source: int = 0
    up: int = 0
    hidden: int = 0
    code: int = 0
    states: dict[str, State] = field(default_factory=dict)
    days: dict[str, BuildRecord | None] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    reused: int = 0
    has_traits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Choose a kind of model."""
        self.kind = self.kind or self.random.choice([DISJOINT, *KINDS])
        self.reads_window, self.is_declared = self.random.random() < 0.5, self.kind in {DISJOINT, WITHDRAWN}
        kinds = {TABLE: MATERIALIZED.get(self.kind, "view"), UP: "table", READER: "table", VIEW: "view"}
        self.graph = BuildGraph(PARENTS, {**kinds, SOURCE: "source"}, keeps_views=True)
        self.build_up()

    @property
    def is_checked(self) -> bool:
        """Whether the declaration of the model is true."""
        return self.kind != WITHDRAWN or not self.is_declared

    def step(self) -> None:
        """Change something, or run."""
        kind, random = self.random.randint(0, 11), self.random
        if kind == 0:
            self.code = random.randint(0, 1)
        elif kind == 1:
            self.source = random.randint(0, 2)
        elif kind == 2:
            self.build_up()
        elif kind == 3:
            self.hidden += 1
            self.rows = self.rows if random.random() < 0.5 else None
            self.is_declared = self.is_declared and (self.kind != WITHDRAWN or random.random() < 0.5)
        elif kind == 4:
            self.run_reader()
        elif kind == 5:
            self.run_view()
        elif kind == 6:
            self.run_twice(self.some_days(), self.some_days())
        else:
            self.run(self.some_days() if random.random() < 0.9 else ())

    def some_days(self) -> Days:
        """Choose a partition or a range."""
        first = self.random.randrange(len(DAYS))
        last = self.random.choice([first, first, self.random.randrange(first, len(DAYS))])
        return DAYS[first : last + 1]

    def build_up(self) -> None:
        """Build the table that the partitioned one reads."""
        self.runs, self.up = self.runs + 1, self.up + 1
        self.states[UP], self.shapes[UP] = BuildRecord(f"up {self.up}", "up", "", {}, 0), f"up {self.up}"

    def window(self, days: Days) -> str | None:
        """Return the hash of what dbt gets of the partitions."""
        is_batched = self.is_declared and not self.reads_window
        return ("batches" if is_batched else repr(days)) if days else None

    def known(self, days: Days) -> Known:
        """Return what is known before a run."""
        state, code, window = self.states.get(TABLE), str(self.code), self.window(days)
        unbuilt = None
        if isinstance(state, BuildRecord) and state.fingerprint == code:
            last = {day: self.days.get(day) for day in days}
            unbuilt = partitions.unbuilt_partition(state, window, last, keeps_others=self.is_declared)
        return Known(
            {TABLE: code, UP: "up", READER: "reader", VIEW: "view"},
            {TABLE: "its inputs may depend on the partition"} if self.kind == CHOOSING and self.has_traits else {},
            self.states,
            {SOURCE: str(self.source)},
            {},
            {},
            {},
            source_columns={SOURCE: "columns"},
            unbuilt={TABLE: unbuilt} if unbuilt else {},
            windowed=frozenset({TABLE} if days else ()),
        )

    def existing(self) -> dict[str, bool | None]:
        """Look up the tables: those whose columns were looked up after their last build."""
        found: dict[str, bool | None] = {UP: True}
        for name, content in ((TABLE, self.rows), (READER, self.reader), (VIEW, self.view)):
            state = self.states.get(name)
            is_looked_up = isinstance(state, BuildRecord) and self.shapes.get(name) == state.build_id
            found[name] = (True if is_looked_up else None) if content is not None else False
        return found

    def run(self, days: Days) -> None:
        """Run partitions, or the table without partitions."""
        random = self.random
        self.runs += 1
        known, existing, before = self.known(days), self.existing(), deepcopy((self.rows, self.columns))
        decision = decide(self.graph, known, {TABLE}, set(), existing)
        refresh, counts, is_forced = random.random() < 0.1, random.random() < 0.85, random.random() < 0.2
        if not decision.built and not refresh and counts and not is_forced:
            self.reused += 1
            if self.is_checked:
                self.build(days, refresh=False)
                assert (self.rows, self.columns) == before
            return
        last = self.states.get(TABLE)
        self.states[TABLE] = Unknown("started")
        event = random.random()
        if event < 0.1:  # failed
            return
        self.build(days, refresh=refresh, rows="" if counts else "other")
        if event > 0.9:  # killed after the commit
            return
        record = self.record(days, known, last, keeps_others=existing[TABLE] is True and not refresh)
        self.states[TABLE] = record if counts else Unknown("it does not count")
        self.days |= dict.fromkeys(days, record if counts else None)
        if random.random() < 0.9:
            self.shapes[TABLE] = record.build_id

    def run_twice(self, first: Days, second: Days) -> None:
        """Run partitions in two runs at the same time. The second one sees that the first one has not ended."""
        self.runs += 1
        known, existing, last = self.known(first), self.existing(), self.states.get(TABLE)
        if not decide(self.graph, known, {TABLE}, set(), existing).built:
            return
        for days in self.random.sample([first, second], 2):
            self.build(days, refresh=False)
        record = self.record(first, known, last, keeps_others=existing[TABLE] is True)
        self.states[TABLE] = Unknown("the other run was to build it, too")
        self.days |= dict.fromkeys(first, record) | dict.fromkeys(second, None)

    def record(self, days: Days, known: Known, last: State | None, *, keeps_others: bool) -> BuildRecord:
        """Return the record of a build."""
        build_id, window, code = f"table {self.runs}", self.window(days), str(self.code)
        columns = build_id if days else knowledge.column_version(self.graph, known, TABLE, {})
        inputs = read_inputs(self.graph, known, TABLE, {})
        record = BuildRecord(build_id, code, "", inputs, 0, columns=columns, window=window)
        if window is None:
            return record
        is_current = isinstance(last, BuildRecord) and last.fingerprint == record.fingerprint
        keeps_others = keeps_others and self.is_declared and is_current
        return replace(record, series=partitions.series_of(record, last, "rule", keeps_others=keeps_others))

    def build(self, days: Days, *, refresh: bool, rows: str = "") -> None:
        """Fill the table, or create the view."""
        is_replaced = refresh or MATERIALIZED.get(self.kind) != "incremental"
        kept = {} if is_replaced else self.rows or {}
        content = (self.code, rows) if self.kind in {OF_VIEW, CHOOSING} else (self.code, self.source, self.up, rows)
        written = (content, days) if self.reads_window or not days or self.kind == CHOOSING else content
        following = DAYS[DAYS.index(days[-1]) + 1 :][:1] if days and self.kind in {OVERLAPPING, WITHDRAWN} else ()
        self.rows = {**kept, **dict.fromkeys([*(days or DAYS), *following], written)}
        # Incremental models only add columns.
        earlier = frozenset() if is_replaced or self.columns is None or not kept else self.columns
        self.columns = earlier | {(self.code, days if self.reads_window else None)}

    def read(self) -> Content:
        """Query the table or view."""
        if self.kind == CHOOSING:
            return deepcopy(self.rows), self.hidden if self.rows and DAYS[0] not in self.rows else self.source
        return (deepcopy(self.rows), self.source, self.up) if self.kind == OF_VIEW else deepcopy(self.rows)

    def run_reader(self) -> None:
        """Run the table without partitions that reads the partitioned one."""
        self.runs += 1
        known = self.known(())
        decision = decide(self.graph, known, {READER}, set(), self.existing())
        if not decision.built:
            self.reused += 1
            assert self.reader == self.read()
            return
        if self.rows is not None:
            self.reader, build_id = self.read(), f"reader {self.runs}"
            self.states[READER] = BuildRecord(build_id, "reader", "", read_inputs(self.graph, known, READER, {}), 0)
            self.shapes[READER] = build_id

    def run_view(self) -> None:
        """Run the view without partitions that reads the partitioned table."""
        self.runs += 1
        known = self.known(())
        decision = decide(self.graph, known, {VIEW}, set(), self.existing())
        if not decision.built:
            self.reused += 1
            assert self.view == self.columns
            return
        if self.rows is not None:
            self.view, build_id = deepcopy(self.columns), f"view {self.runs}"
            inputs = read_inputs(self.graph, known, VIEW, {})
            columns = knowledge.column_version(self.graph, known, VIEW, {})
            self.states[VIEW] = BuildRecord(build_id, "view", "", inputs, 0, columns=columns)
            self.shapes[VIEW] = build_id


def simulate(random: Random, steps: int, kind: str = "") -> Shop:
    """Run a random history."""
    shop = Shop(random, kind)
    for _ in range(steps):
        shop.step()
    return shop


@settings(max_examples=HISTORIES, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rows_of_partitions_are_those_of_a_run_that_builds_them(random: Random) -> None:
    simulate(random, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_histories_reuse_partitions(kind: str) -> None:
    shops = [simulate(Random(seed), 60, kind) for seed in range(50)]  # noqa: S311  # not for secrets

    assert sum(shop.reused for shop in shops) > (0 if kind == CHOOSING else 50)


@pytest.mark.parametrize(
    ("place", "careless", "answer", "kinds"),
    [
        (partitions, "unbuilt_partition", lambda *_, **__: None, KINDS[:4]),
        (partitions, "series_of", lambda *_, **__: "rule", [DISJOINT]),
        (partitions, "series_of", lambda build, *_, **__: f"rule {build.fingerprint} {build.inputs}", [DISJOINT]),
        (knowledge, "_known_columns", lambda *_: "columns", [DISJOINT, REPLACED]),
        (Shop, "has_traits", False, [CHOOSING]),
    ],
)
def test_oracle_finds_careless_decisions(
    place: object,
    careless: str,
    answer: object,
    kinds: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(place, careless, answer)

    found = {kind: sum(has_other_rows(seed, kind) for seed in range(100)) for kind in kinds}
    assert {kind: count > 0 for kind, count in found.items()} == dict.fromkeys(kinds, True), found


def has_other_rows(seed: int, kind: str) -> bool:
    try:
        simulate(Random(seed), 60, kind)  # noqa: S311  # not for secrets
    except AssertionError:
        return True
    return False

"""Models that wait for new data: dbt's ``build_after``, and ``lag_tolerance`` of dbt State."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from floe_orchestrator_dagster.execution.reuse.decision import CODE_CHANGED, UP_TO_DATE, Decision, decide
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.knowledge import Known, read_codes, read_inputs
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, State
from floe_orchestrator_dagster.execution.reuse.waiting import (
    NO_WAITING,
    NOT_ALL_CHANGED,
    WAITS,
    Waiting,
    waiting_time,
)

ORDERS, STORES = "source.shop.landing.orders", "source.shop.landing.stores"
STG_ORDERS, STG_STORES, MART, REPORT = (f"model.shop.{name}" for name in ("stg_orders", "stg_stores", "mart", "report"))
GRAPH = BuildGraph(
    {STG_ORDERS: (ORDERS,), STG_STORES: (STORES,), MART: (STG_ORDERS, STG_STORES), REPORT: (MART,)},
    {
        **dict.fromkeys((ORDERS, STORES), "source"),
        **dict.fromkeys((STG_ORDERS, STG_STORES, MART, REPORT), "table"),
    },
)
NODES = (STG_ORDERS, STG_STORES, MART, REPORT)
HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, NO_WAITING),
        ({"freshness": None, "state": None}, NO_WAITING),
        ({"freshness": {"warn_after": {"count": 1, "period": "day"}}}, NO_WAITING),
        ({"freshness": {"build_after": {"count": 2, "period": "hour"}}}, Waiting(2 * HOUR)),
        (
            {"freshness": {"build_after": {"count": 1, "period": "day", "updates_on": "all"}}},
            Waiting(DAY, needs_all=True),
        ),
        ({"freshness": {"build_after": {"count": None, "period": None, "updates_on": "any"}}}, NO_WAITING),
        ({"freshness": {"build_after": {"count": -1, "period": "day"}}}, NO_WAITING),
        ({"freshness": {"build_after": {"count": 1, "period": "month"}}}, NO_WAITING),
        ({"state": {"lag_tolerance": "45m"}}, Waiting(2700)),
        ({"state": {"lag_tolerance": "1.5 hours"}}, Waiting(1.5 * HOUR)),
        ({"state": {"lag_tolerance": "2w", "require_fresh_data_from": "all"}}, Waiting(14 * DAY, needs_all=True)),
        ({"state": {"lag_tolerance": {"count": 7, "period": "day", "updates_on": None}}}, Waiting(7 * DAY)),
        (
            {
                "state": {"lag_tolerance": None, "require_fresh_data_from": None},
                "freshness": {"build_after": {"count": 1, "period": "day", "updates_on": "all"}},
            },
            Waiting(DAY, needs_all=True),
        ),
        ({"state": {"lag_tolerance": "{{ '4h' }}"}}, NO_WAITING),
        ({"state": {"lag_tolerance": "soon"}}, NO_WAITING),
        (
            {
                "state": {"lag_tolerance": "0s", "require_fresh_data_from": "any"},
                "freshness": {"build_after": {"count": 1, "period": "day", "updates_on": "all"}},
            },
            NO_WAITING,
        ),
        (
            {
                "state": {"lag_tolerance": "1h"},
                "freshness": {"build_after": {"count": 1, "period": "day", "updates_on": "all"}},
            },
            Waiting(HOUR, needs_all=True),
        ),
    ],
)
def test_waiting_time_is_read_from_both_settings(config: dict[str, Any], expected: Waiting) -> None:
    assert waiting_time(config) == expected


@dataclass
class Shop:
    """Four tables over two sources, and runs that build what is decided."""

    waiting: dict[str, Waiting]
    now: float = 1000 * DAY
    versions: dict[str, str] = field(default_factory=lambda: {ORDERS: "1", STORES: "1"})
    code: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NODES, "code"))
    states: dict[str, State] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)
    existing: dict[str, bool | None] = field(default_factory=lambda: dict.fromkeys(NODES, True))

    def run(self, *, after: float = 0.0, nodes: tuple[str, ...] = NODES) -> Decision:
        """Decide after some seconds, and record the builds."""
        self.now += after
        known = Known(
            self.code, self.always, self.states, self.versions, {}, {}, {}, waiting=self.waiting, now=self.now
        )
        decision, build_ids = decide(GRAPH, known, set(nodes), set(), self.existing), dict[str, str]()
        built: dict[str, State] = {}
        for node in [node for node in NODES if node in decision.built]:
            build_ids[node] = f"{node} {self.now}"
            inputs = read_inputs(GRAPH, known, node, build_ids)
            codes = read_codes(known, inputs, build_ids.keys() - {node})
            built[node] = BuildRecord(build_ids[node], self.code[node], "", inputs, 0, self.now, codes=codes)
        self.states = {**self.states, **built}
        return decision


def test_parent_that_waits_is_not_consumed_by_its_child() -> None:
    shop = Shop({STG_ORDERS: Waiting(DAY)})
    assert shop.run().built.keys() == set(NODES)

    shop.versions[ORDERS] = "2"
    waits = shop.run(after=HOUR)
    assert (waits.built, waits.reused) == ({}, {**dict.fromkeys(NODES, UP_TO_DATE), STG_ORDERS: WAITS})

    # The child reads other new data meanwhile.
    shop.versions[STORES] = "2"
    assert shop.run(after=HOUR).built.keys() == {STG_STORES, MART, REPORT}
    assert shop.run(after=HOUR).built == {}

    assert shop.run(after=DAY).built.keys() == {STG_ORDERS, MART, REPORT}
    assert shop.run(after=2 * DAY).built == {}


def test_child_that_waits_reads_what_its_parent_built_meanwhile() -> None:
    shop = Shop({MART: Waiting(DAY)})
    shop.run()
    shop.versions[ORDERS] = "2"

    first = shop.run(after=HOUR)
    assert (set(first.built), first.reused[MART]) == ({STG_ORDERS}, WAITS)

    assert shop.run(after=DAY).built.keys() == {MART, REPORT}


def test_model_that_needs_all_parents_is_built_when_the_second_one_is_built_on_another_day() -> None:
    shop = Shop({MART: Waiting(needs_all=True)})
    shop.run()

    shop.versions[ORDERS] = "2"
    first = shop.run(after=DAY)
    assert (set(first.built), first.reused[MART]) == ({STG_ORDERS}, NOT_ALL_CHANGED)
    assert shop.run(after=DAY).reused[MART] == NOT_ALL_CHANGED

    shop.versions[STORES] = "2"
    assert shop.run(after=DAY).built.keys() == {STG_STORES, MART, REPORT}
    assert shop.run(after=DAY).built == {}


def test_code_failures_and_missing_tables_do_not_wait() -> None:
    def shop() -> Shop:
        found = Shop(dict.fromkeys(NODES, Waiting(DAY)))
        found.run()
        found.versions[ORDERS] = "2"
        return found

    edited = shop()
    edited.code[MART] = "other"
    assert edited.run(after=HOUR).built == {MART: CODE_CHANGED, REPORT: "mart is built"}

    parent = shop()
    parent.code[STG_STORES] = "other"
    assert parent.run(after=HOUR).built.keys() == {STG_STORES, MART, REPORT}

    dropped = shop()
    dropped.existing[STG_ORDERS] = False
    assert dropped.run(after=HOUR).built.keys() == {STG_ORDERS, MART, REPORT}

    lost = shop()
    del lost.states[STG_ORDERS]
    assert lost.run(after=HOUR).built.keys() == {STG_ORDERS, MART, REPORT}

    other_clock = shop()
    assert other_clock.run(after=-HOUR).built.keys() == {STG_ORDERS, MART, REPORT}


def test_unknown_data_of_a_source_waits() -> None:
    shop = Shop({STG_ORDERS: Waiting(DAY)})
    del shop.versions[ORDERS]
    shop.run()

    assert shop.run(after=HOUR).built == {}
    assert shop.run(after=DAY).built.keys() == {STG_ORDERS, MART, REPORT}


def test_a_source_of_unknown_data_counts_as_changed_with_updates_on_all() -> None:
    shop = Shop({STG_ORDERS: Waiting(needs_all=True)})
    del shop.versions[ORDERS]
    shop.run()

    assert STG_ORDERS in shop.run(after=DAY).built


def test_a_parent_with_new_code_that_another_run_has_built_is_not_waited_for() -> None:
    shop = Shop({MART: Waiting(DAY, needs_all=True)})
    shop.run()

    shop.code[STG_ORDERS] = "other"
    assert shop.run(after=HOUR, nodes=(STG_ORDERS,)).built.keys() == {STG_ORDERS}
    assert shop.run(after=HOUR).built.keys() == {MART, REPORT}


def test_changed_code_behind_a_parent_that_is_always_built_is_not_waited_for() -> None:
    shop = Shop({REPORT: Waiting(DAY)}, always={MART: "it has hooks"})
    shop.run()
    assert shop.run(after=HOUR).built.keys() == {MART}

    shop.code[STG_ORDERS] = "other"
    assert shop.run(after=HOUR).built.keys() == {STG_ORDERS, MART, REPORT}

"""Nodes and tests with which dbt runs its on-run hooks."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.execution.reuse.decision import UP_TO_DATE, Decision
from floe_orchestrator_dagster.execution.reuse.graph import BuildGraph
from floe_orchestrator_dagster.execution.reuse.waiting import WAITS
from floe_orchestrator_dagster.execution.step.build_decision import with_a_node

GRAPH = BuildGraph(
    {"stg": ("raw",), "mart": ("stg",), "report": ("mart",)},
    {"raw": "source", "stg": "view", "mart": "table", "report": "view", "log": "incremental", "other": "table"},
)


@pytest.mark.parametrize(
    ("reused", "built"),
    [
        ({"stg": UP_TO_DATE, "mart": UP_TO_DATE, "report": UP_TO_DATE, "other": UP_TO_DATE}, {"report"}),
        ({"stg": UP_TO_DATE, "log": UP_TO_DATE, "other": UP_TO_DATE}, {"other"}),
        ({"stg": UP_TO_DATE, "log": UP_TO_DATE}, {"log"}),
        ({"stg": UP_TO_DATE, "mart": UP_TO_DATE}, set()),  # others that are not selected read them
        ({"other": WAITS}, set()),
    ],
)
def test_hooks_without_a_data_test_run_with_a_node_that_nothing_reads(reused: dict[str, str], built: set[str]) -> None:
    decision = with_a_node(Decision({}, reused, {}, {}), GRAPH)

    assert decision.built.keys() == built
    assert decision.reused.keys() == reused.keys() - built


def test_hooks_run_with_a_data_test_if_there_is_one() -> None:
    kept = {"unit_test.a": "kept", "test.a": "kept", "test.b": "kept"}

    decision = with_a_node(Decision({}, {"other": UP_TO_DATE}, {}, kept), GRAPH)

    assert decision.built == {}
    assert decision.run.keys() == {"test.a"}
    assert decision.kept.keys() == {"unit_test.a", "test.b"}

"""The one table of dbt's statuses, and entries of ``sources.json``."""

from __future__ import annotations

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import Freshness, NodeResult, read_source_result


def ended(status: str, kind: str = "model", *, is_error: bool = False) -> NodeResult:
    return NodeResult(f"{kind}.shop.a", "a", kind, "table", status, is_error=is_error)


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("success", "succeeded"),
        ("pass", "succeeded"),
        ("warn", "succeeded"),
        ("no-op", "succeeded"),
        ("reused", "succeeded"),
        ("error", "failed"),
        ("fail", "failed"),
        ("runtime error", "failed"),
        ("partial success", "failed"),
        ("skipped", "skipped"),
    ],
)
def test_a_status_decides_how_a_node_ended_whatever_the_level(status: str, ending: str) -> None:
    assert [ended(status, is_error=is_error).ending for is_error in (False, True)] == [ending, ending]


def test_an_unknown_status_counts_by_the_level_of_its_event() -> None:
    fine, broken = ended("a status of the future"), ended("a status of the future", is_error=True)

    assert (fine.has_failed, fine.was_built) == (False, True)
    assert (broken.has_failed, broken.was_built) == (True, False)


def test_a_reused_model_is_built_and_a_reused_test_has_passed() -> None:
    assert ended("reused").was_built
    assert ended("reused", "test").passed
    assert not ended("warn", "test").passed
    assert not ended("reused", "test").was_built


def test_a_source_has_the_age_of_its_data_and_why_it_is_stale() -> None:
    result = read_source_result(
        {
            "unique_id": "source.shop.raw.orders",
            "status": "error",
            "max_loaded_at": "2026-11-01T00:00:00Z",
            "max_loaded_at_time_ago_in_s": 1814400.5,
            "snapshotted_at": "2026-11-22T00:00:00+00:00",
            "criteria": {"error_after": {"count": 2, "period": "day"}},
        }
    )

    assert result is not None
    assert (result.name, result.has_failed, result.passed) == ("orders", True, False)
    assert result.started == result.finished == "2026-11-22T00:00:00+00:00"
    assert result.message == ("the newest row is of 2026-11-01T00:00:00Z, more than 2 day before the check")
    assert result.freshness == Freshness(
        "2026-11-01T00:00:00Z",
        "2026-11-22T00:00:00+00:00",
        1814400.5,
        {"error_after": {"count": 2, "period": "day"}},
    )


def test_a_source_that_could_not_be_looked_at_has_no_age() -> None:
    result = read_source_result({"unique_id": "source.shop.raw.a", "status": "runtime error", "error": "no such file"})

    assert result is not None
    assert (result.freshness, result.message, result.has_failed) == (None, "no such file", True)
    assert read_source_result({"status": "pass"}) is None

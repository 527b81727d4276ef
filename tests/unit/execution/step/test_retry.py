"""Work of earlier tries that a retry reuses, on real runs of Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from unit.execution.scripted_step import BOTH, CHECKS, ON_SOURCE, SOURCE, UNIQUE, UNIT, A, B, found, job_of, tries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Dagster's own, where it stores what a check found (Python 3.12 and newer).
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")


def table(key: dg.AssetKey) -> dg.Output[None]:
    return dg.Output(None, output_name=key.path[-1])


def check(key: dg.AssetCheckKey, *, passed: bool = True, status: str = "pass") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(asset_key=key.asset_key, check_name=key.name, passed=passed, metadata={"status": status})


def step_job() -> dg.JobDefinition:
    """Define the job without retries of its step."""
    return job_of(0)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance whose runs can be re-executed."""
    found.clear()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def executed(instance: dg.DagsterInstance, *does: list[Any]) -> list[dg.ExecuteJobResult]:
    """Run the job, and re-execute it from failure until nothing is left to do."""
    tries[:] = does
    job = dg.reconstructable(step_job)
    results = [dg.execute_job(job, instance=instance)]
    for _ in does[1:]:
        options = dg.ReexecutionOptions.from_failure(results[-1].run_id, instance)
        tags = {"dagster/is_resume_retry": "true"}  # as the webserver and the daemon mark such a run
        results.append(dg.execute_job(job, instance=instance, reexecution_options=options, tags=tags))
    return results


def test_nothing_is_done_before_the_first_try(lasting: dg.DagsterInstance) -> None:
    executed(lasting, [])

    assert (found[0].assets, found[0].checks) == ({}, {})


def test_three_generations_add_up(lasting: dg.DagsterInstance) -> None:
    on_source = {"asset_key": SOURCE, "check_name": "on_source", "passed": True}
    runs = executed(
        lasting,
        [on_source, check(UNIT), table(A), check(UNIQUE)],
        [table(B), check(BOTH, passed=False, status="warn")],
        [],
    )

    assert [set(done.assets) for done in found] == [set(), {A}, {A, B}]
    assert [set(done.checks) for done in found] == [set(), {ON_SOURCE, UNIT, UNIQUE}, set(CHECKS)]
    # Both tables are there, and the test over them warned: nothing of it is left.
    assert found[2].assets == {A: runs[0].run_id, B: runs[1].run_id}


def test_a_table_of_which_a_check_failed_is_left_until_it_passes(lasting: dg.DagsterInstance) -> None:
    executed(
        lasting,
        [table(A), check(UNIQUE, passed=False, status="fail")],
        [table(A), check(UNIQUE)],
        [],
    )

    assert [set(done.assets) for done in found] == [set(), set(), {A}]
    assert [set(done.checks) for done in found] == [set(), set(), {UNIQUE}]


def test_a_table_that_was_built_again_takes_back_what_its_checks_found(lasting: dg.DagsterInstance) -> None:
    executed(lasting, [table(B), check(UNIT), table(A), check(BOTH)], [table(B)], [])

    # The unit test is of a; the test over both read the old b.
    assert set(found[2].assets) == {A, B}
    assert set(found[2].checks) == {UNIT}


def test_the_evaluations_that_stand_are_handed_over_to_the_run_that_retries(lasting: dg.DagsterInstance) -> None:
    first, second = executed(lasting, [table(A), check(UNIQUE), check(UNIT, passed=False, status="warn")], [])

    evaluations = {one.check_name: one for one in second.get_asset_check_evaluations()}
    assert {name: one.passed for name, one in evaluations.items()} == {"unique": True, "unit": False}
    assert {one.metadata["floe/built_in_run"].value for one in evaluations.values()} == {first.run_id}
    latest = lasting.event_log_storage.get_latest_asset_check_execution_by_key([UNIQUE])[UNIQUE]
    assert latest.status.value == "SUCCEEDED"


def test_a_retry_of_the_step_counts_its_tries(lasting: dg.DagsterInstance) -> None:
    tries[:] = [[table(A), check(UNIQUE), table(B), check(BOTH)], [table(B)], []]

    assert job_of(2).execute_in_process(instance=lasting).success
    assert [set(done.assets) for done in found] == [set(), {A, B}, {A, B}]
    assert [set(done.checks) for done in found] == [set(), {UNIQUE, BOTH}, {UNIQUE}]


def test_a_check_that_failed_is_told_although_the_step_did_not_select_it(lasting: dg.DagsterInstance) -> None:
    executed(lasting, [{"asset_key": SOURCE, "check_name": "on_source", "passed": False}, table(A), table(B)], [])

    assert set(found[1].assets) == {A, B}
    assert not found[1].checks
    assert found[1].failed == {ON_SOURCE}


def test_what_dbt_reports_as_reused_was_done_by_the_run_itself(lasting: dg.DagsterInstance) -> None:
    reused = dg.Output(None, output_name="a", metadata={"status": "reused"})

    runs = executed(lasting, [reused, check(UNIQUE, status="reused")], [])

    assert found[1].assets == {A: runs[0].run_id}
    assert set(found[1].checks) == {UNIQUE}

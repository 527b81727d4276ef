"""Runs that have ended are known to have started some of their steps, and not others."""

from __future__ import annotations

import dagster as dg

from floe_orchestrator_dagster.upstream.dagster_history import PlannedBuild, StartedSteps


@dg.op
def first() -> None:
    """Do nothing."""


@dg.job
def jobs_own() -> None:
    """Run the op."""
    first()


def test_steps_of_unknown_and_unfinished_runs_may_have_started() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        started = StartedSteps(instance)
        unfinished = instance.create_run_for_job(jobs_own)

        assert started.may_have(PlannedBuild(1, "deleted", "first"))
        assert started.may_have(PlannedBuild(1, unfinished.run_id, "first"))


def test_steps_of_ended_runs_have_started_if_they_have_events() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ended = jobs_own.execute_in_process(instance=instance).run_id
        steps = ["first", "second", None]

        started = StartedSteps(instance)
        assert [started.may_have(PlannedBuild(1, ended, step)) for step in steps] == [True, False, True]


def test_after_a_hundred_runs_every_step_may_have_started() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ended = jobs_own.execute_in_process(instance=instance).run_id
        known, late = StartedSteps(instance), StartedSteps(instance)
        known.may_have(PlannedBuild(1, ended, "second"))
        for number in range(100):
            known.may_have(PlannedBuild(1, str(number), "first"))
            late.may_have(PlannedBuild(1, str(number), "first"))

        assert not known.may_have(PlannedBuild(1, ended, "second"))
        assert late.may_have(PlannedBuild(1, ended, "second"))

"""Completed work of earlier tries of a step, which a retry does not repeat.

Earlier tries are those of the same run (a step's retry policy), and the runs that were re-executed from failure, by
hand or by Dagster's run retries (https://docs.dagster.io/guides/build/jobs/job-execution#re-executing-from-failure).
Their work is read from Dagster's event log. A re-execution of failed assets (``FROM_ASSET_FAILURE``) has no earlier
tries, because Dagster selects only the remaining assets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.execution.record.materializations import versioned_output
from floe_orchestrator_dagster.execution.step.build_history import BUILT_IN_RUN, mark_kept, metadata_again
from floe_orchestrator_dagster.execution.step.run_options import rows_chosen
from floe_orchestrator_dagster.upstream.dagster_check_evaluations import output_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from dagster import DagsterEvent

RESUME_TAG = "dagster/is_resume_retry"
_REUSED = "reused"
_EVENTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_RESTARTED,
}


@dataclass(frozen=True)
class Evaluation:
    """Result of a check in an earlier try.

    Attributes:
        run_id: Id of the run.
        found: The evaluation.
        number: Number of the try.
    """

    run_id: str
    found: dg.AssetCheckEvaluation
    number: int

    @property
    def is_fine(self) -> bool:
        """Whether dbt continued after it. dbt's severity decides this, not the contract's."""
        status = self.found.metadata.get("status")
        return self.found.passed or (status is not None and status.value == "warn")


@dataclass(frozen=True)
class Done:
    """Completed and failed work of earlier tries.

    Attributes:
        assets: Built assets without failed checks, each with the id of the run that built it.
        checks: Last evaluations of checks that passed or only warned, and whose tables were not built again.
        failed: Checks whose last evaluation failed, including checks that ran without being selected.
        failed_nodes: dbt unique ids of the failed checks.
    """

    assets: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    checks: Mapping[dg.AssetCheckKey, Evaluation] = field(default_factory=dict)
    failed: frozenset[dg.AssetCheckKey] = frozenset()
    failed_nodes: Mapping[dg.AssetCheckKey, str] = field(default_factory=dict)


def done_before(context: dg.OpExecutionContext, reads: Mapping[dg.AssetCheckKey, AbstractSet[dg.AssetKey]]) -> Done:
    """Return the work of earlier tries of this step; empty in a first try.

    Args:
        context: The step's context.
        reads: The assets that each check reads. A check that is not in it reads its own asset.
    """
    runs = list(_earlier_runs(context))
    if not runs and not context.retry_number:
        return Done()
    history = _History(context.get_step_execution_context().step.key, reads)
    for run_id in (*runs, context.run.run_id):
        records = context.instance.all_logs(run_id, of_type=_EVENTS)
        history.add_run(run_id, (record.dagster_event for record in records if record.dagster_event))
    return history.done()


class _History:
    """The events of a step's tries, in order."""

    def __init__(self, step_key: str, reads: Mapping[dg.AssetCheckKey, AbstractSet[dg.AssetKey]]) -> None:
        self._step_key, self._reads = step_key, reads
        self._number = 0
        self._built: dict[dg.AssetKey, str] = {}
        self._evaluations: dict[dg.AssetCheckKey, Evaluation] = {}

    def add_run(self, run_id: str, events: Iterable[DagsterEvent]) -> None:
        """Add the events of a run."""
        self._number += 1
        for event in events:
            is_own = event.step_key == self._step_key
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
                if not was_reused(event.step_materialization_data.materialization.metadata):
                    self._add_table(event.asset_key, run_id if is_own else None)
            elif is_own and event.event_type is dg.DagsterEventType.STEP_RESTARTED:
                self._number += 1
            elif is_own and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                found = event.asset_check_evaluation_data
                if not was_reused(found.metadata):
                    self._evaluations[found.asset_check_key] = Evaluation(run_id, found, self._number)

    def _add_table(self, key: dg.AssetKey, run_id: str | None) -> None:
        """Add a built table, and drop evaluations of its checks from earlier tries.

        Evaluations of the same try are kept: dbt runs tests after the tables that they read, and unit tests before.
        """
        if run_id is not None:
            self._built[key] = run_id
        self._evaluations = {
            check: evaluation
            for check, evaluation in self._evaluations.items()
            if evaluation.number == self._number or key not in self._reads.get(check, {check.asset_key})
        }

    def done(self) -> Done:
        """Return the completed and failed work."""
        fine = {check: evaluation for check, evaluation in self._evaluations.items() if evaluation.is_fine}
        failed = self._evaluations.keys() - fine.keys()
        tables = {check.asset_key for check in failed}
        built = {key: run_id for key, run_id in self._built.items() if key not in tables}
        ids = {check: self._evaluations[check].found.metadata.get("unique_id") for check in failed}
        return Done(built, fine, frozenset(failed), {check: str(found.value) for check, found in ids.items() if found})


def was_reused(metadata: Mapping[str, dg.MetadataValue[Any]]) -> bool:
    """Return whether an event repeats one of an earlier run. Its status is ambiguous: dbt 1.12 also has ``reused``."""
    return BUILT_IN_RUN in metadata


def read_by_other_steps(context: dg.OpExecutionContext) -> frozenset[str]:
    """Return the names of this step's outputs that other steps of its job depend on."""
    own = context.op_handle.name
    return frozenset(
        dependency.output
        for inputs in context.job_def.dependencies.values()
        for definition in inputs.values()
        for dependency in definition.get_node_dependencies()
        if dependency.node == own
    )


def handed_over(
    context: dg.OpExecutionContext, assets: Mapping[dg.AssetKey, str], checks: Mapping[dg.AssetCheckKey, Evaluation]
) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    """Yield outputs and results of earlier runs again, so that Dagster does not skip downstream steps and checks.

    Args:
        context: The step's context.
        assets: Assets that are not built again, each after those that it reads, with the id of the run that built it.
        checks: Evaluations of checks that are not evaluated again.
    """
    read, names = read_by_other_steps(context), output_names(context)
    others = {key: run_id for key, run_id in assets.items() if run_id != context.run_id}
    earlier = {key: run_id for key, run_id in others.items() if names[key] in read}
    mark_kept(context.instance, context.run_id, {key: run_id for key, run_id in others.items() if key not in earlier})
    # The new materialization is the asset's last one: without the record of the build, the table would be unknown.
    again = metadata_again(context.instance, earlier)
    for key, run_id in earlier.items():
        metadata, version = again.get(key, ({}, None))
        yield versioned_output(names[key], {**metadata, **_reused(run_id)}, version)
    for check, evaluation in sorted(checks.items(), key=lambda item: str(item[0])):
        if evaluation.run_id != context.run_id:
            found = evaluation.found
            yield dg.AssetCheckResult(
                passed=found.passed,
                asset_key=check.asset_key,
                check_name=check.name,
                severity=found.severity,
                description=found.description,
                metadata={**found.metadata, **_reused(evaluation.run_id)},
            )


def _reused(run_id: str) -> dict[str, Any]:
    return {"status": _REUSED, BUILT_IN_RUN: dg.MetadataValue.dagster_run(run_id)}


def built_in_runs(context: dg.OpExecutionContext) -> frozenset[dg.AssetKey]:
    """Return the assets that the run has built so far, and those that the runs built that it re-executes.

    Unlike :func:`done_before`, it reads the work of all steps, and of re-executions of any kind.
    """
    events = (
        record.dagster_event
        for run in _reexecuted_runs(context)
        for record in context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    )
    return frozenset(event.asset_key for event in events if event is not None and event.asset_key is not None)


def _earlier_runs(context: dg.OpExecutionContext) -> Iterator[str]:
    """Return the ids of the runs that this run resumes, the oldest first."""
    found: list[str] = []
    for run in _reexecuted_runs(context):
        found.append(run.run_id)
        if run.tags.get(RESUME_TAG) != "true":
            break
    return reversed(found[1:])


def _reexecuted_runs(context: dg.OpExecutionContext) -> Iterator[dg.DagsterRun]:
    """Yield this run and the runs that it re-executes, the newest first.

    Their tables have the rows that this run asks for: a run without rows is not resumed by one with all of them.
    """
    run: dg.DagsterRun | None = context.run
    chosen = rows_chosen(context.run, context.op.name)
    while run is not None and rows_chosen(run, context.op.name) == chosen:
        yield run
        run = context.instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None

"""What earlier tries of a step have done already: a retry runs the rest only.

Earlier tries are those of the same run (a step's retry policy), and the runs that were re-executed from failure, by
hand or by Dagster's run retries (https://docs.dagster.io/guides/build/jobs/job-execution#re-executing-from-failure).
Their events say what they did, wherever they ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

_REUSED = "reused"
RESUME_TAG = "dagster/is_resume_retry"
_EVENTS = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


@dataclass(frozen=True)
class Done:
    """What needs no second run.

    Attributes:
        assets: Id of the run that built it, by key of the asset; none of its checks failed.
        checks: The last evaluations of these assets' checks, which passed or only warned.
        by_other_runs: Whether other runs than this one are among the earlier tries.
    """

    assets: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    checks: Mapping[dg.AssetCheckKey, dg.AssetCheckEvaluation] = field(default_factory=dict)
    by_other_runs: bool = False


def done_before(context: dg.OpExecutionContext) -> Done:
    """Find what earlier tries of this step have built and checked; nothing in a first try."""
    runs = list(_earlier_runs(context))
    tries = [*runs, context.run.run_id] if context.retry_number else runs
    if not tries:
        return Done()
    step_key = context.get_step_execution_context().step.key
    built: dict[dg.AssetKey, str] = {}
    checks: dict[dg.AssetKey, dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]] = {}
    for run_id in tries:
        for record in context.instance.all_logs(run_id, of_type=_EVENTS):
            event = record.dagster_event
            if event is None or event.step_key != step_key:
                continue
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
                if not _was_reused(event.step_materialization_data.materialization.metadata):
                    built[event.asset_key] = run_id
            elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                found = event.asset_check_evaluation_data
                checks.setdefault(found.asset_key, {})[found.asset_check_key] = found
    fine = {key: run_id for key, run_id in built.items() if all(map(_is_fine, checks.get(key, {}).values()))}
    evaluations = {check: found for key in fine for check, found in checks.get(key, {}).items()}
    return Done(assets=fine, checks=evaluations, by_other_runs=bool(runs))


def _was_reused(metadata: Mapping[str, dg.MetadataValue[Any]]) -> bool:
    status = metadata.get("status")
    return status is not None and status.value == _REUSED


def _is_fine(found: dg.AssetCheckEvaluation) -> bool:
    """Whether dbt went on after it: that is dbt's own severity, not the one that the contract declares."""
    status = found.metadata.get("status")
    return found.passed or (status is not None and status.value == "warn")


def read_by_other_steps(context: dg.OpExecutionContext) -> frozenset[str]:
    """Name the outputs of this step that other steps of its job wait for."""
    own = context.op_handle.name
    return frozenset(
        dependency.output
        for inputs in context.job_def.dependencies.values()
        for definition in inputs.values()
        for dependency in definition.get_node_dependencies()
        if dependency.node == own
    )


def built_before(
    done: Done, outputs: AbstractSet[str], assets: AbstractSet[dg.AssetKey], checks: AbstractSet[dg.AssetCheckKey]
) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    """Hand over what an earlier run built to the steps that read it: Dagster would skip them without an output.

    Args:
        done: What was built.
        outputs: Names of the outputs that other steps wait for.
        assets: The step's assets.
        checks: The step's checks.
    """
    for key in sorted(done.assets.keys() & assets):
        name = key.to_python_identifier()
        if name in outputs:
            yield dg.Output(None, output_name=name, metadata=_reused(done.assets[key]))
    for check in sorted(done.checks.keys() & checks, key=str):
        if f"{check.asset_key.to_python_identifier()}_{check.name}" in outputs:
            metadata = _reused(done.assets[check.asset_key])
            found = done.checks[check]
            yield dg.AssetCheckResult(
                passed=found.passed,
                asset_key=check.asset_key,
                check_name=check.name,
                severity=found.severity,
                metadata=metadata,
            )


def _reused(run_id: str) -> dict[str, Any]:
    return {"status": _REUSED, "floe/built_in_run": dg.MetadataValue.dagster_run(run_id)}


def _earlier_runs(context: dg.OpExecutionContext) -> Iterator[str]:
    """Ids of the runs that this one resumes, the oldest first."""
    found: list[str] = []
    run: dg.DagsterRun | None = context.run
    while run is not None and run.tags.get(RESUME_TAG) == "true" and run.parent_run_id:
        found.append(run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
    return reversed(found)

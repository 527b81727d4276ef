"""Progress of a run's steps, from Dagster's event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.execution.step.step_order import RunSteps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STARTS = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED)
_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS: True,
    dg.DagsterEventType.STEP_SKIPPED: True,
    dg.DagsterEventType.STEP_FAILURE: False,
}


def run_steps(context: dg.OpExecutionContext, steps: Sequence[str]) -> RunSteps:
    """Read the progress of a run's dbt steps.

    Args:
        context: The context of one of the steps.
        steps: Names of all steps of the product that run dbt. Those that are not part of the run are ignored.
    """
    reads = _upstream(context.job_def)
    resumed = context.run.step_keys_to_execute
    # Dagster splits a step when another step depends on a part of it, and adds numbers to the names of the parts.
    of_dbt = [node.name for node in context.job_def.nodes if node.definition.name in steps]
    planned = [step for step in of_dbt if resumed is None or step in resumed]
    started: dict[str, None] = {}
    ended: dict[str, bool] = {}
    for record in context.instance.all_logs(context.run_id, of_type={*_STARTS, *_ENDS}):
        event = record.dagster_event
        if event is None or event.step_key not in planned:
            continue
        if event.event_type in _STARTS:
            started[event.step_key] = None
            ended.pop(event.step_key, None)
        else:
            ended[event.step_key] = _ENDS[event.event_type]
    return RunSteps({step: _all_above(step, reads) for step in planned}, list(started), ended)


def failed_checks(context: dg.OpExecutionContext) -> list[str]:
    """Return the names of failed blocking checks, for which Dagster fails a step at its end.

    Args:
        context: The context of the step, after all its checks were yielded.
    """
    if not any(spec.blocking for spec in context.assets_def.check_specs):
        return []
    step = context.get_step_execution_context().step.key
    failed: list[str] = []
    kinds = {*_STARTS, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    for record in context.instance.all_logs(context.run_id, of_type=kinds):
        event = record.dagster_event
        if event is None or event.step_key != step:
            continue
        if event.event_type in _STARTS:
            failed.clear()
            continue
        found = event.asset_check_evaluation_data
        if found.blocking and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
            failed.append(found.asset_check_key.to_user_string())
    return failed


def is_tried_again(context: dg.OpExecutionContext, error: BaseException) -> bool:
    """Whether Dagster retries the step after this error: not after an interrupt or an error that is not retryable."""
    step = context.get_step_execution_context()
    policy = step.op_retry_policy
    may = policy is not None and not step.retry_mode.disabled and context.retry_number < policy.max_retries
    is_final = isinstance(error, FloeDagsterError) and not error.retryable
    return may and isinstance(error, Exception) and not is_final


def _upstream(job: dg.JobDefinition) -> Mapping[str, set[str]]:
    """Return the direct upstream steps of each step of a job."""
    reads: dict[str, set[str]] = {node.name: set() for node in job.nodes}
    for node, inputs in job.dependencies.items():
        for dependency in inputs.values():
            reads.setdefault(node.alias or node.name, set()).update(
                upstream.node for upstream in dependency.get_node_dependencies()
            )
    return reads


def _all_above(step: str, reads: Mapping[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(reads[step])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += reads.get(name, ())
    return frozenset(found)

"""OpenLineage run of a product: its identity, its start by the first step of a Dagster run, its end by the last."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.product.tags import tag_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
    from floe_orchestrator_dagster.lineage.events.run import LineageRun, State
    from floe_orchestrator_dagster.product import Product


ENDS = ("COMPLETE", "FAIL", "ABORT")
"""States in which an OpenLineage run ends."""

_STEP_STARTS = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED)
# Whether a step succeeded, by the event of its end.
_STEP_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS: True,
    dg.DagsterEventType.STEP_SKIPPED: True,
    dg.DagsterEventType.STEP_FAILURE: False,
}
_PRODUCT_RUN = "lineage_product"
# Start of the message that a step stores for the other steps at its end, before it reads whether they have ended.
_END_MARK = "Lineage: the step ends as "


@dataclass(frozen=True)
class ProductRun:
    """The product's OpenLineage run, as seen by one of the steps that start and end it.

    Attributes:
        context: The step's context.
        steps: Names of the product's steps that run dbt.
        run: The step's lineage attributes.
        emitter: Emits the events.
    """

    context: dg.OpExecutionContext
    steps: Sequence[str]
    run: LineageRun
    emitter: LineageEmitter

    def start(self) -> None:
        """Emit the start if this is the first step, unless an earlier try of the step has emitted the start."""
        if not self._last_state() and run_steps(self.context, self.steps).is_first(self.run.step_key):
            self._emit("START")

    def end(self, error: BaseException | None = None) -> None:
        """Emit the end if this is the last step, and Dagster does not retry it.

        If a blocking check failed, Dagster fails the step after its code has ended without an error. It does not retry
        such a step.

        Args:
            error: The step's error; None when it succeeded. For an interrupt it is not an ``Exception``.
        """
        if error is None:
            failed = failed_checks(self.context)
            self._end(
                "FAIL" if failed else "COMPLETE", f"blocking checks failed: {', '.join(failed)}" if failed else ""
            )
        elif not isinstance(error, Exception):
            self._end("ABORT", "the step was interrupted")
        elif not is_tried_again(self.context, error):
            self._end("FAIL", str(error))

    def _end(self, state: State, why: str = "") -> None:
        step = self.run.step_key
        if len(planned_steps(self.context, self.steps)) > 1:
            self.context.instance.report_engine_event(f"{_END_MARK}{state}.", self.context.run, step_key=step)
        end = run_steps(self.context, self.steps).end_with(step, state)
        before = self._last_state()
        if end is None or before in ENDS:
            return
        if not before:  # the first step failed before it emitted the start
            self._emit("START")
        self._emit(end, why or ("a step failed before" if end == "FAIL" else ""))

    def _last_state(self) -> str:
        return last_state(self.run.product, self.context.instance, self.context.run_id)

    def _emit(self, state: State, why: str = "") -> None:
        from floe_orchestrator_dagster.lineage.events.python_assets import product_event

        self.emitter.emit(product_event(self.run, state, datetime.now(tz=timezone.utc), why))
        self.context.instance.add_run_tags(self.context.run_id, state_tag(self.run.product, self.context.run_id, state))


def product_tag(name: str, product: Product) -> str:
    """Return the name of a Dagster run's tag for one product, because a run can have assets of several products."""
    return f"floe/{tag_value(f'{name}.{product.identifier}')}"


def state_tag(product: Product, run_id: str, state: str) -> dict[str, str]:
    """Return the Dagster run's tag with the last emitted event of the product's run.

    The tag contains the run id, because a re-execution inherits the tags of its parent.
    """
    return {product_tag(_PRODUCT_RUN, product): f"{state} {run_id}"}


def last_state(product: Product, instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the last emitted event of the product's run; empty when there was none.

    It is read from Dagster's table of tags. The run's own record can lack tags, because steps that add tags at the same
    time overwrite the record.
    """
    tag = product_tag(_PRODUCT_RUN, product)
    for state in (*ENDS, "START"):
        if instance.get_runs_count(dg.RunsFilter(run_ids=[run_id], tags={tag: f"{state} {run_id}"})):
            return state
    return ""


def lineage_run(product: Product, instance: dg.DagsterInstance, dagster_run: dg.DagsterRun) -> LineageRun:
    """Return the lineage attributes of a Dagster run, without those of a step; the same in any process."""
    from floe_orchestrator_dagster.lineage.events.floe_events import PRODUCER
    from floe_orchestrator_dagster.lineage.events.run import LineageRun, read_parent_id

    record = instance.get_run_record_by_id(dagster_run.run_id)
    return LineageRun(
        product=product,
        dagster_run_id=dagster_run.run_id,
        job_name=dagster_run.job_name,
        created_at=record.create_timestamp if record else datetime.now(tz=timezone.utc),
        producer=PRODUCER,
        parent=read_parent_id(os.environ.get("OPENLINEAGE_PARENT_ID", "")),
        root=read_parent_id(os.environ.get("OPENLINEAGE_ROOT_PARENT_ID", "")),
        dagster_version=version("dagster"),
        adapter_version=version("floe-orchestrator-dagster"),
    )


def installed_version(package: str) -> str:
    """Return a package's version; empty when it is not installed."""
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def planned_steps(context: dg.OpExecutionContext, steps: Sequence[str]) -> list[str]:
    """Return the names of a run's dbt steps.

    Args:
        context: The context of one of the steps.
        steps: Names of all steps of the product that run dbt. Those that are not part of the run are left out.
    """
    resumed = context.run.step_keys_to_execute
    # Dagster splits a step when another step depends on a part of it, and adds numbers to the names of the parts.
    of_dbt = [node.name for node in context.job_def.nodes if node.definition.name in steps]
    return [step for step in of_dbt if resumed is None or step in resumed]


def run_steps(context: dg.OpExecutionContext, steps: Sequence[str]) -> RunSteps:
    """Read the progress of a run's dbt steps; the arguments are those of :func:`planned_steps`."""
    reads = _upstream(context.job_def)
    planned = planned_steps(context, steps)
    started: dict[str, None] = {}
    marked: dict[str, None] = {}
    ended: dict[str, bool] = {}
    kinds = {*_STEP_STARTS, *_STEP_ENDS, dg.DagsterEventType.ENGINE_EVENT}
    for record in context.instance.all_logs(context.run_id, of_type=kinds):
        event = record.dagster_event
        if event is None or event.step_key not in planned:
            continue
        if event.event_type in _STEP_STARTS:
            started[event.step_key] = None
            marked.pop(event.step_key, None)
            ended.pop(event.step_key, None)
        elif event.event_type in _STEP_ENDS:
            ended[event.step_key] = _STEP_ENDS[event.event_type]
        elif (event.message or "").startswith(_END_MARK):
            marked[event.step_key] = None
            ended[event.step_key] = event.message == f"{_END_MARK}COMPLETE."
    return RunSteps({step: _all_above(step, reads) for step in planned}, list(started), ended, list(marked))


def failed_checks(context: dg.OpExecutionContext) -> list[str]:
    """Return the names of failed blocking checks, for which Dagster fails a step at its end.

    Args:
        context: The context of the step, after all its checks were yielded.
    """
    if not any(spec.blocking for spec in context.assets_def.check_specs):
        return []
    step = context.get_step_execution_context().step.key
    failed: list[str] = []
    kinds = {*_STEP_STARTS, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
    for record in context.instance.all_logs(context.run_id, of_type=kinds):
        event = record.dagster_event
        if event is None or event.step_key != step:
            continue
        if event.event_type in _STEP_STARTS:
            failed.clear()
            continue
        found = event.asset_check_evaluation_data
        if found.blocking and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
            failed.append(found.asset_check_key.to_user_string())
    return failed


def is_tried_again(context: dg.OpExecutionContext, error: BaseException) -> bool:
    """Return whether Dagster retries the step: not after an interrupt, or an error that is not retryable."""
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


@dataclass(frozen=True)
class RunSteps:
    """Progress of the dbt steps of a Dagster run.

    Attributes:
        upstream: All steps upstream of each dbt step.
        started: Steps that have started, in this order.
        ended: Whether each ended step succeeded. A step that Dagster retries has not ended.
        marked: Steps that have stored a message about their end, in this order.
    """

    upstream: Mapping[str, AbstractSet[str]]
    started: Sequence[str]
    ended: Mapping[str, bool]
    marked: Sequence[str] = ()

    def is_first(self, step: str) -> bool:
        """Return whether no other step has started before this one."""
        return next(iter(self.started), step) == step

    def end_with(self, step: str, state: State) -> State | None:
        """Return the state in which the product's run ends with a step; None if other steps have yet to end.

        Steps downstream of a failed one do not run. In an interrupted run, no more steps start. When the last two steps
        end at the same time, each reads the other's message, and the step with the last message emits the end of the
        run. If that step is killed before it does, a lineage sensor emits the end. The sensor also does if a database
        with parallel writers returns the messages in another order. A step stores its message before its events are
        delivered: an error after that no longer changes the state of the product's run.

        Args:
            step: The step that ends now.
            state: Its final state.
        """
        failed = {key for key, succeeded in self.ended.items() if not succeeded}
        if state != "COMPLETE":
            failed.add(step)
        waiting = [key for key in self.upstream if key != step and key not in self.ended]
        left = [key for key in waiting if key in self.started or (state != "ABORT" and not self.upstream[key] & failed)]
        if left or (self.marked and self.marked[-1] != step):
            return None
        return "FAIL" if failed and state == "COMPLETE" else state

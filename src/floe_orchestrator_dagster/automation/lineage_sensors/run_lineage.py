"""Lineage events of an ended Dagster run that its steps did not emit.

These are the ends of OpenLineage runs whose process died, events of Python assets, and the end of the product's run
when no step emitted it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.lineage_sensors.asset_lineage import AssetDescriptions
from floe_orchestrator_dagster.automation.lineage_sensors.unfinished_runs import END_UNKNOWN, end_open_runs_of
from floe_orchestrator_dagster.errors import LineageError, Problem
from floe_orchestrator_dagster.execution.step.product_lineage import (
    ENDS,
    last_state,
    lineage_run,
    product_tag,
    state_tag,
)
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openlineage.client.event_v2 import RunEvent

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.lineage.delivery.attempts import Deliveries
    from floe_orchestrator_dagster.lineage.events.run import LineageRun, State
    from floe_orchestrator_dagster.product import Product


_TYPES = dg.DagsterEventType
_PLANNED = (_TYPES.ASSET_MATERIALIZATION_PLANNED, _TYPES.ASSET_CHECK_EVALUATION_PLANNED)
_STARTS = (_TYPES.STEP_START, _TYPES.STEP_RESTARTED)
_FAILURES = (_TYPES.STEP_FAILURE, _TYPES.STEP_UP_FOR_RETRY)
_ENDS = (_TYPES.STEP_SUCCESS, *_FAILURES)
_READ = {*_PLANNED, *_STARTS, *_ENDS, _TYPES.ASSET_MATERIALIZATION}
_STATES: dict[dg.DagsterRunStatus, State] = {
    dg.DagsterRunStatus.SUCCESS: "COMPLETE",
    dg.DagsterRunStatus.FAILURE: "FAIL",
    dg.DagsterRunStatus.CANCELED: "ABORT",
}
# Tag of a processed run, with counts of its events, and with its run id, because re-executions inherit their parent's
# tags.
_AFTER_RUN = "lineage_after_run"
# A sensor's tick is limited to 60 s and can have 25 runs. Events that are not delivered in time stay in the spool.
_RUN_SECONDS = 1.0


def emit_remaining_lineage(
    context: dg.RunStatusSensorContext, translator: ProductTranslator, dbt_steps: frozenset[str]
) -> Deliveries | None:
    """Emit the remaining lineage events of an ended run; return None when there are none.

    Args:
        context: The run, which is over.
        translator: Translator of the product's dbt nodes.
        dbt_steps: Names of the steps that emit their lineage themselves.

    Raises:
        LineageError: With ``lineage.strict``: the backend has not accepted all events.
    """
    product, run = translator.product, context.dagster_run
    if run.tags.get(product_tag(_AFTER_RUN, product), "").endswith(run.run_id):
        return None
    config = product.config.lineage
    config = config.model_copy(update={"flush_seconds": min(config.flush_seconds, _RUN_SECONDS)})
    emitter = emitter_for(product.artifacts, config, run=run.run_id, log=context.log)
    if emitter is None:
        return None
    ended = _EndedRun(context, translator, dbt_steps)
    with emitter:
        end_open_runs_of(emitter, run.run_id, ended.reason, context.log)
        for event in ended.events():
            emitter.emit(event)
        if not emitter.deliveries().emitted:
            return None

        def tag_run() -> None:
            counts = {product_tag(_AFTER_RUN, product): f"{emitter.deliveries().counts} of {run.run_id}"}
            context.instance.add_run_tags(run.run_id, {**state_tag(product, run.run_id, ended.product_state), **counts})

        tag_run()  # before the flush: the events are stored, even if the code server ends during the flush
        try:
            return emitter.flush()
        finally:
            tag_run()


@dataclass(frozen=True)
class _EndedRun:
    """An ended run and the state of its lineage. Each part is read once, when it is needed."""

    context: dg.RunStatusSensorContext
    translator: ProductTranslator
    dbt_steps: frozenset[str]

    @property
    def product(self) -> Product:
        return self.translator.product

    @cached_property
    def steps(self) -> Mapping[str, StepLog]:
        return read_step_logs(self.context.instance, self.context.dagster_run.run_id)

    @cached_property
    def run(self) -> LineageRun:
        return lineage_run(self.product, self.context.instance, self.context.dagster_run)

    @cached_property
    def product_event(self) -> str:
        """The type of the last event of the product's run that its steps emitted."""
        return last_state(self.product, self.context.instance, self.context.dagster_run.run_id)

    @property
    def product_state(self) -> str:
        return self.product_event if self.product_event in ENDS else _STATES[self.context.dagster_run.status]

    @property
    def reason(self) -> str:
        """Why the run did not succeed; empty when it did."""
        status, message = self.context.dagster_run.status, self.context.dagster_event.message
        return "" if status is dg.DagsterRunStatus.SUCCESS else message or f"the run ended as {status.value}"

    def events(self) -> Iterator[RunEvent]:
        """Yield the events of Python assets, and those of the product's run that are missing."""
        from floe_orchestrator_dagster.lineage.events.python_assets import product_event

        assets = [*self._asset_events()]
        if not assets and not any(map(self._runs_dbt, self.steps)):
            return
        if not self.product_event:
            yield product_event(self.run, "START", self._started())
        yield from assets
        if self.product_event not in ENDS:
            state = _STATES[self.context.dagster_run.status]
            yield product_event(self.run, state, self._now(), self.reason)

    def _runs_dbt(self, step: str) -> bool:
        """Return whether a step emitted its lineage itself. Dagster adds numbers to the names of split steps."""
        return step in self.dbt_steps or re.sub(r"_\d+$", "", step) in self.dbt_steps

    def _asset_events(self) -> Iterator[RunEvent]:
        described = AssetDescriptions(self.translator, self.context.repository_def)
        reported = described.reported({asset for step in self.steps.values() for asset in step.assets})
        for key, step in self.steps.items():
            if self._runs_dbt(key):
                continue
            for number, step_try in enumerate(step.tries):
                run = replace(self.run, step_key=key, retry_number=number)
                made = dict.fromkeys([*step.planned, *step_try.made])
                for asset in filter(reported.__contains__, made):
                    yield from self._guarded(asset, self._events_of(run, described, asset, step, step_try))

    def _guarded(self, key: dg.AssetKey, events: Iterator[RunEvent]) -> list[RunEvent]:
        """Create the events of an asset; return none and log a warning when that fails."""
        try:
            return [*events]
        except Exception as error:  # noqa: BLE001  # one asset must not prevent the end of the product's run
            what = f"no event of asset {key.to_user_string()} could be created ({type(error).__name__}: {error})"
            problem = Problem("lineage", what, "Please report it. `lineage.enabled: false` disables lineage.")
            self.context.log.warning("%s", LineageError(self.product.origin, [problem]))
            return []

    def _events_of(
        self, run: LineageRun, described: AssetDescriptions, key: dg.AssetKey, step: StepLog, step_try: StepTry
    ) -> Iterator[RunEvent]:
        from floe_orchestrator_dagster.lineage.events.python_assets import asset_event

        at, made = step_try.made.get(key, (None, None))
        if made is None and step_try.ended is not None and step_try.error is None:
            return  # the step succeeded without materializing this optional asset
        state, why = self._end_of(made, step_try)
        partition = (made.partition if made else None) or step.planned.get(key)
        run = replace(run, window=described.window(key, partition))
        asset, names, rows = described.asset(key, made), described.names(key), described.rows(made)
        yield asset_event(run, asset, "START", step_try.started, known=names)
        yield asset_event(run, asset, state, at or step_try.ended or self._now(), why, known=names, rows=rows)

    def _end_of(self, made: dg.AssetMaterialization | None, step_try: StepTry) -> tuple[State, str]:
        if made is not None:
            return "COMPLETE", ""
        return ("FAIL", step_try.error) if step_try.error is not None else ("ABORT", f"{END_UNKNOWN}: {self.reason}")

    def _started(self) -> datetime:
        return min((step.tries[0].started for step in self.steps.values() if step.tries), default=self.run.created_at)

    def _now(self) -> datetime:
        return datetime.now(tz=timezone.utc)


@dataclass
class StepTry:
    """An attempt of a step.

    Attributes:
        started: Its start time.
        ended: Its end time; None when the log has no end.
        error: The error message; None when it did not fail.
        made: The last materialization of each asset and its time, by asset key.
    """

    started: datetime
    ended: datetime | None = None
    error: str | None = None
    made: dict[dg.AssetKey, tuple[datetime, dg.AssetMaterialization]] = field(default_factory=dict)


@dataclass
class StepLog:
    """The log of one step.

    Attributes:
        planned: The partition of each planned asset; None for an asset without partitions.
        tries: Its attempts, in order; empty when it never started.
    """

    planned: dict[dg.AssetKey, str | None] = field(default_factory=dict)
    tries: list[StepTry] = field(default_factory=list)

    @property
    def assets(self) -> set[dg.AssetKey]:
        """The planned assets, and those that any attempt materialized."""
        return {*self.planned, *(key for step_try in self.tries for key in step_try.made)}


def read_step_logs(instance: dg.DagsterInstance, run_id: str) -> Mapping[str, StepLog]:
    """Read the steps of a run by key: those with planned assets or checks, and all others that started."""
    steps: dict[str, StepLog] = {}
    for record in instance.all_logs(run_id, of_type=_READ):
        event = record.dagster_event
        if event is None or event.step_key is None:
            continue
        step = steps.setdefault(event.step_key, StepLog())
        at = datetime.fromtimestamp(record.timestamp, tz=timezone.utc)
        if event.event_type is _TYPES.ASSET_MATERIALIZATION_PLANNED:
            planned = event.asset_materialization_planned_data
            step.planned[planned.asset_key] = planned.partition
        elif event.event_type in _STARTS:
            step.tries.append(StepTry(at))
        elif event.event_type not in _PLANNED and step.tries:
            _record(step.tries[-1], event, at)
    return steps


def _record(step_try: StepTry, event: dg.DagsterEvent, at: datetime) -> None:
    if event.event_type is _TYPES.ASSET_MATERIALIZATION:
        made = event.step_materialization_data.materialization
        step_try.made[made.asset_key] = (at, made)
        return
    step_try.ended = at
    if event.event_type in _FAILURES:
        error = getattr(event.event_specific_data, "error", None)
        cause = (error.cause or error) if error else None
        step_try.error = cause.message.strip() if cause else event.message or "the step failed"
        if cause and cause.cls_name == dg.Failure.__name__:  # the message after the name of Dagster's exception
            step_try.error = step_try.error.partition(": ")[2]

"""Steps of a run in Dagster's event log: attempts, planned assets and materialized assets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES = dg.DagsterEventType
_PLANNED = (_TYPES.ASSET_MATERIALIZATION_PLANNED, _TYPES.ASSET_CHECK_EVALUATION_PLANNED)
_STARTS = (_TYPES.STEP_START, _TYPES.STEP_RESTARTED)
_FAILURES = (_TYPES.STEP_FAILURE, _TYPES.STEP_UP_FOR_RETRY)
_ENDS = (_TYPES.STEP_SUCCESS, *_FAILURES)
_READ = {*_PLANNED, *_STARTS, *_ENDS, _TYPES.ASSET_MATERIALIZATION}


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

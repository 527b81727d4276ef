"""What Dagster's event log says of a run's steps: their tries, and which assets each was to make and made."""

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
    """One try of a step.

    Attributes:
        started: When it started.
        ended: When it ended; None when nothing says so.
        error: Why it failed; None when it did not.
        made: What it materialized, and when, by asset key; the last of each.
    """

    started: datetime
    ended: datetime | None = None
    error: str | None = None
    made: dict[dg.AssetKey, tuple[datetime, dg.AssetMaterialization]] = field(default_factory=dict)


@dataclass
class StepLog:
    """What became of one step.

    Attributes:
        planned: The partition of each asset that it was to make; None of one without partitions.
        tries: Its tries, in their order; empty when it never started.
    """

    planned: dict[dg.AssetKey, str | None] = field(default_factory=dict)
    tries: list[StepTry] = field(default_factory=list)

    @property
    def assets(self) -> set[dg.AssetKey]:
        """The assets that it was to make, or made in any try."""
        return {*self.planned, *(key for step_try in self.tries for key in step_try.made)}


def read_step_logs(instance: dg.DagsterInstance, run_id: str) -> Mapping[str, StepLog]:
    """Read the steps of a run, by key: those that were to build or check assets, and all others that started."""
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
            _note(step.tries[-1], event, at)
    return steps


def _note(step_try: StepTry, event: dg.DagsterEvent, at: datetime) -> None:
    if event.event_type is _TYPES.ASSET_MATERIALIZATION:
        made = event.step_materialization_data.materialization
        step_try.made[made.asset_key] = (at, made)
        return
    step_try.ended = at
    if event.event_type in _FAILURES:
        error = getattr(event.event_specific_data, "error", None)
        cause = (error.cause or error) if error else None
        step_try.error = cause.message.strip() if cause else event.message or "the step failed"
        if cause and cause.cls_name == dg.Failure.__name__:  # a step's own words, after Dagster's name for them
            step_try.error = step_try.error.partition(": ")[2]

"""Dagster's event log and key-value storage, for decisions about many assets with a few queries.

The storages' methods are not public. The public ones read one asset each, or have no value that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_UNFINISHED = (
    *(dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING),
    *(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.MANAGED),
)
# Events of a step that an executor has started.
_STARTED = {
    *(dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_WORKER_STARTED),
    *(dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED, dg.DagsterEventType.STEP_UP_FOR_RETRY),
    *(dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE),
}
_INSTANCE_ID = "floe/instance_id"
_MAX_RUNS = 100
_MAX_EVENTS = 50_000
_KEYS_AT_ONCE = 400  # SQLite limits the number of variables in a statement


@dataclass(frozen=True)
class PlannedBuild:
    """A materialization that a run has planned.

    Attributes:
        event: Id of the event.
        run_id: Id of the run.
        step: Key of the run's step that builds the asset; None if it is not known.
    """

    event: int
    run_id: str
    step: str | None


@dataclass(frozen=True)
class PlannedRuns:
    """Materializations that runs have planned.

    Attributes:
        since: The planned materializations by asset, ascending, of the events after ``bound``.
        bound: Earlier events have not been read.
        unfinished: Assets that unfinished runs build, with the id of one of the runs.
        all_by: Id of an unfinished run of which it is not known which assets it builds; None without one.
    """

    since: Mapping[dg.AssetKey, Sequence[PlannedBuild]] = field(default_factory=dict)
    bound: int = 0
    unfinished: Mapping[dg.AssetKey, str] = field(default_factory=dict)
    all_by: str | None = None


def instance_id(instance: dg.DagsterInstance) -> str:
    """Return an id of the instance's storage, which is created with the first call."""
    known = stored_values(instance, [_INSTANCE_ID])
    if not known:
        store_values(instance, {_INSTANCE_ID: uuid4().hex})
        known = stored_values(instance, [_INSTANCE_ID])  # another process can have stored one
    return known[_INSTANCE_ID]


def newest_event(instance: dg.DagsterInstance) -> int:
    """Return the id of the newest event of all runs."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def planned_runs(instance: dg.DagsterInstance, run_id: str, after: int) -> PlannedRuns:
    """Read which assets other runs build: the unfinished runs, and all runs since an event.

    Args:
        instance: The Dagster instance.
        run_id: Id of the own run, which is left out.
        after: Id of the event.
    """
    unfinished, all_by = _unfinished(instance, run_id)
    wanted = dg.EventRecordsFilter(_PLANNED, after_cursor=after)
    records = instance.event_log_storage.get_event_records(wanted, limit=_MAX_EVENTS)
    since: dict[dg.AssetKey, list[PlannedBuild]] = {}
    for record in reversed(records):
        key, entry = record.asset_key, record.event_log_entry
        if key is not None and entry.run_id != run_id:
            since.setdefault(key, []).append(PlannedBuild(record.storage_id, entry.run_id, entry.step_key))
    bound = min(record.storage_id for record in records) if len(records) == _MAX_EVENTS else after
    return PlannedRuns(since, bound, unfinished, all_by)


def _unfinished(instance: dg.DagsterInstance, run_id: str) -> tuple[dict[dg.AssetKey, str], str | None]:
    runs = instance.get_runs(dg.RunsFilter(statuses=list(_UNFINISHED)), limit=_MAX_RUNS)
    found: dict[dg.AssetKey, str] = {}
    all_by = runs[-1].run_id if len(runs) == _MAX_RUNS else None
    for run in runs:
        if run.run_id == run_id:
            continue
        planned = instance.all_logs(run.run_id, of_type=_PLANNED)
        # Dagster stores a run before the events of its plan.
        if not planned and run.status is not dg.DagsterRunStatus.STARTED:
            all_by = run.run_id
        for entry in planned:
            if entry.dagster_event is not None and entry.dagster_event.asset_key is not None:
                found[entry.dagster_event.asset_key] = run.run_id
    return found, all_by


class StartedSteps:
    """The steps that ended runs have started. The events of each run are read once."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        """Read nothing yet."""
        self._instance = instance
        self._of_run: dict[str, frozenset[str] | None] = {}

    def may_have(self, planned: PlannedBuild) -> bool:
        """Return whether the step of a planned materialization may have started, or may still start."""
        if planned.run_id not in self._of_run:
            if len(self._of_run) == _MAX_RUNS:
                return True
            self._of_run[planned.run_id] = self._read(planned.run_id)
        started = self._of_run[planned.run_id]
        return started is None or planned.step is None or planned.step in started

    def _read(self, run_id: str) -> frozenset[str] | None:
        """Return the started steps of a run; None if it has not ended, or is unknown."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or not run.is_finished:
            return None
        events = self._instance.all_logs(run_id, of_type=_STARTED)
        return frozenset(event.step_key for event in events if event.step_key is not None)


def stored_values(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, str]:
    """Read values from the instance's key-value storage; missing keys are left out."""
    every, found = list(keys), dict[str, str]()
    for start in range(0, len(every), _KEYS_AT_ONCE):
        found.update(instance.run_storage.get_cursor_values(set(every[start : start + _KEYS_AT_ONCE])))
    return found


def store_values(instance: dg.DagsterInstance, values: Mapping[str, str]) -> None:
    """Write values to the instance's key-value storage.

    SQLite's storage loses the new keys of a call that also has known ones, so that these are written in separate calls.
    """
    known = stored_values(instance, values)
    for wanted in (True, False):
        part = [(key, value) for key, value in values.items() if (key in known) is wanted]
        for start in range(0, len(part), _KEYS_AT_ONCE):
            instance.run_storage.set_cursor_values(dict(part[start : start + _KEYS_AT_ONCE]))

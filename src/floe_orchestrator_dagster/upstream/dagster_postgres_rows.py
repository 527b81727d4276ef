"""Statements that write several of Dagster's events to PostgreSQL, with the rows that Dagster writes one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection

USED_METHODS = ("_event_to_row", "_get_asset_entry_values", "has_secondary_index")
"""Methods of Dagster's storage that this module calls."""
# Each event is notified, as in Dagster's `store_event`. Watchers of old versions of Dagster receive the notification.
_INSERT_EVENTS = """
with stored as (insert into event_logs ({columns}) values {rows} returning run_id, id)
select id, pg_notify('run_events', run_id || '_' || id) from stored
"""
# As in Dagster's `store_asset_check_event`, for results without a partition.
_UPDATE_CHECKS = """
update asset_check_executions as stored
set execution_status = result.status, evaluation_event = result.event, evaluation_event_timestamp = result.at,
    evaluation_event_storage_id = result.id, materialization_event_storage_id = result.target
from (values {rows}) as result (asset_key, check_name, run_id, status, event, at, id, target)
where stored.asset_key = result.asset_key and stored.check_name = result.check_name
    and stored.run_id = result.run_id and stored.partition is null
returning stored.asset_key, stored.check_name, stored.run_id
"""
_CHECK_ROW = "(%s, %s, %s, %s, %s, %s::timestamp, %s::bigint, %s::bigint)"
# Run and text identify an event, because its text contains its time. The lock waits for a statement that the server
# still executes although its connection was lost.
_FIND_EVENTS = """
lock table event_logs in share mode;
select run_id, event, id from event_logs where (run_id, event) in ({keys})
"""
# Kinds of events that are batched; None for messages of the run log.
_BATCHED = {
    None,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.HANDLED_OUTPUT,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ENGINE_EVENT,
}


class EventStatements:
    """Statements for several events at once."""

    def __init__(self, storage: Any, connect: Callable[[], AbstractContextManager[Connection]]) -> None:  # noqa: ANN401  # its class is not public
        """Write with the connections of ``connect``; ``storage`` is Dagster's event log."""
        self._storage, self._connect = storage, connect

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert rows in one statement, and return their ids."""
        columns = [*rows[0]]
        row = f"({', '.join(['%s'] * len(columns))})"
        statement = _INSERT_EVENTS.format(columns=", ".join(columns), rows=", ".join([row] * len(rows)))
        values = tuple(row[column] for row in rows for column in columns)
        with self._connect() as connection:
            return [int(found[0]) for found in connection.exec_driver_sql(statement, values)]

    def find_stored(self, batch: Sequence[QueuedEvent]) -> Mapping[QueuedEvent, int]:
        """Return the ids of the events that the server has stored although the connection was lost."""
        keys = [(queued.row["run_id"], queued.row["event"]) for queued in batch]
        statement = _FIND_EVENTS.format(keys=", ".join(["(%s, %s)"] * len(keys)))
        with self._connect() as connection:
            found = connection.exec_driver_sql(statement, tuple(value for key in keys for value in key))
            ids = {(run_id, event): int(event_id) for run_id, event, event_id in found}
        return {queued: ids[key] for queued, key in zip(batch, keys, strict=True) if key in ids}

    def update_checks(self, latest: Mapping[tuple[str, str, str], tuple[QueuedEvent, int]]) -> list[tuple[Any, ...]]:
        """Store the latest result of each check in the row of the planned check; returns the keys of these rows."""
        values = tuple(value for queued, event_id in latest.values() for value in queued.result(event_id))
        statement = _UPDATE_CHECKS.format(rows=", ".join([_CHECK_ROW] * len(latest)))
        with self._connect() as connection:
            return [tuple(found) for found in connection.exec_driver_sql(statement, values)]

    def store_observed(self, observations: Mapping[QueuedEvent, int]) -> None:
        """Store observations, one for each asset, in the rows of the assets.

        Args:
            observations: The events with their ids.
        """
        from dagster._core.storage.event_log.migration import ASSET_KEY_INDEX_COLS
        from dagster._core.storage.event_log.schema import AssetKeyTable
        from sqlalchemy.dialects.postgresql import insert

        if not observations:
            return
        has_columns = self._storage.has_secondary_index(ASSET_KEY_INDEX_COLS)
        rows = [
            {"asset_key": queued.asset, **self._storage._get_asset_entry_values(queued.event, event_id, has_columns)}  # noqa: SLF001  # found by find_problem()
            for queued, event_id in observations.items()
        ]
        # In one order, so that two processes do not wait for each other.
        statement = insert(AssetKeyTable).values(sorted(rows, key=lambda row: str(row["asset_key"])))
        updated = {column: statement.excluded[column] for column in rows[0].keys() - {"asset_key"}}
        key = [AssetKeyTable.c.asset_key]
        with self._connect() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=key, set_=updated)
                if updated
                else statement.on_conflict_do_nothing()
            )


@dataclass(frozen=True, eq=False)
class QueuedEvent:
    """An event to write.

    Attributes:
        event: The event.
        row: Its columns in the event log.
    """

    event: dg.EventLogEntry
    row: Mapping[str, Any]

    @property
    def kind(self) -> dg.DagsterEventType | None:
        """Kind of the event; None for a message."""
        return self.event.dagster_event_type

    @property
    def asset(self) -> str | None:
        """Key of the event's asset, as it is stored; None for an event without one."""
        event = self.event.dagster_event
        return event.asset_key.to_string() if event is not None and event.asset_key is not None else None

    @property
    def _evaluation(self) -> Any:  # noqa: ANN401  # the data of an event have no common class
        event: Any = self.event.dagster_event
        return event.event_specific_data

    @property
    def check(self) -> tuple[str, str, str]:
        """Key of the result's row: asset key, name of the check, and run."""
        evaluation = self._evaluation
        return evaluation.asset_key.to_string(), evaluation.check_name, self.event.run_id

    def result(self, event_id: int) -> tuple[Any, ...]:
        """Return the columns of a check's result, which refers to the event by its id."""
        evaluation = self._evaluation
        target = evaluation.target_materialization_data
        status = "SUCCEEDED" if evaluation.passed else "FAILED"
        target_id = target.storage_id if target else None
        return (*self.check, status, self.row["event"], self.row["timestamp"], event_id, target_id)


def can_be_batched(event: dg.EventLogEntry) -> bool:
    """Return whether the statements of this module can write an event."""
    kind = event.dagster_event_type if event.is_dagster_event else None
    if kind is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        # The statement for results does not compare partitions.
        dagster_event: Any = event.dagster_event
        return bool(event.run_id) and getattr(dagster_event.event_specific_data, "partition", None) is None
    return kind in _BATCHED


def is_refusal(error: Exception) -> bool:
    """Return whether the server or the driver has refused a statement. Any other statement may have been executed."""
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and getattr(error.orig, "pgcode", None) is not None
    return isinstance(error, ValueError)  # the driver refuses a NUL character, which PostgreSQL cannot store

"""Storage of a step's events with the patches of Dagster's SQLite and PostgreSQL event logs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.upstream.dagster_event_log import open_event_log
from floe_orchestrator_dagster.upstream.dagster_postgres_batches import batched_events
from floe_orchestrator_dagster.upstream.dagster_postgres_log import open_postgres_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg


@contextmanager
def open_storage(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """Keep the event log's connections open, and store events in batches in PostgreSQL.

    Yields a function that waits until all events are stored. Do not nest the contexts.

    Raises:
        Exception: Events could not be written.
    """
    with open_event_log(instance), open_postgres_log(instance), batched_events(instance) as flush:
        yield flush

"""Closing of a failed step's suspended generator."""

from __future__ import annotations

import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import FloeDagsterError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}
_ENDS = {*_FAILURES, dg.DagsterEventType.STEP_SUCCESS}


def close_with_step(context: dg.OpExecutionContext, running: Generator[Any, None, None]) -> None:
    """Close a generator of a step when Dagster reports the step's failure.

    An interrupt can also occur while Dagster processes an output of the step. The generator is suspended then, and
    Python would close it only at garbage collection.

    Args:
        context: The step's context.
        running: The generator. Without effect when it has ended.
    """
    step_key, instance, run_id = context.get_step_execution_context().step.key, context.instance, context.run_id
    suspended, log = weakref.ref(running), context.log

    def close(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or event.step_key != step_key or event.event_type not in _ENDS:
            return
        _remove_listener(instance, run_id, close)
        generator = suspended()
        if generator is None or inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED:
            return
        if event.event_type in _FAILURES:
            # Dagster drops messages that are logged while it writes an event. The process waits for the thread.
            threading.Thread(target=_close, args=(generator, log), name=f"end of {step_key}").start()

    instance.add_event_listener(run_id, close)


def _remove_listener(instance: dg.DagsterInstance, run_id: str, listener: Callable[[dg.EventLogEntry], None]) -> None:
    """Remove a listener, which is called for each event of the run, and keeps the step's context in memory.

    Dagster has no public function for this. If the instance lacks this attribute, the listener stays.
    """
    listeners: dict[str, list[object]] = getattr(instance, "_subscribers", {})
    left = [other for other in listeners.get(run_id, ()) if other is not listener]
    if left:
        listeners[run_id] = left  # a new list, because Dagster iterates over the old one
    else:
        listeners.pop(run_id, None)


def _close(generator: Generator[Any, None, None], log: dg.DagsterLogManager) -> None:
    try:
        generator.close()
    except Exception as error:  # noqa: BLE001  # of a database, for example; the step has failed already
        log.warning("%s", error if isinstance(error, FloeDagsterError) else f"{type(error).__name__}: {error}")

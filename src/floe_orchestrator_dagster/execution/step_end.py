"""What a step has begun ends with it, however that ends."""

from __future__ import annotations

import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import FloeDagsterError

if TYPE_CHECKING:
    from collections.abc import Generator

_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}


def close_with_step(context: dg.OpExecutionContext, begun: Generator[Any, None, None]) -> None:
    """Close a generator of a step as soon as Dagster says that the step has failed.

    Dagster lets an interrupt through where it looks at a step's output, too. The generator that made it is suspended
    then, and would be left to the garbage collector: at the end of the process, or never.

    Args:
        context: The step's.
        begun: What is to be closed; nothing happens where it has come to its end.
    """
    step_key = context.get_step_execution_context().step.key
    suspended, log = weakref.ref(begun), context.log

    def close(entry: dg.EventLogEntry) -> None:
        generator, event = suspended(), entry.dagster_event
        if generator is None or inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED:
            return
        if event is not None and event.step_key == step_key and event.event_type in _FAILURES:
            # Dagster drops what is logged while it writes an event. The process waits for the thread.
            threading.Thread(target=_close, args=(generator, log), name=f"end of {step_key}").start()

    context.instance.add_event_listener(context.run_id, close)


def _close(generator: Generator[Any, None, None], log: dg.DagsterLogManager) -> None:
    try:
        generator.close()
    except FloeDagsterError as error:  # the step has failed already
        log.warning("%s", error)

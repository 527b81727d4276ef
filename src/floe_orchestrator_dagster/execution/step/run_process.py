"""Interrupt of a step that has its own process or pod when its run ends without it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_CHECK_SECONDS = 10


@contextmanager
def ended_with_run(context: dg.OpExecutionContext) -> Iterator[None]:
    """Interrupt this step when its run ends, or is killed, inside the block.

    Dagster's multiprocess executor does not end its steps when its process is killed. Executors with a pod or container
    per step do not end them when the pod of the run is lost, or when a run is terminated that would be resumed. dbt
    would continue, in the same tables as a retry of the run.

    Args:
        context: The step's context.
    """
    # The process of a run with steps inside also has a parent, the code server. It continues without it.
    if not _has_own_process(context):
        yield
        return
    process, step_ended = multiprocessing.parent_process(), threading.Event()
    run_ends = process.join if process else partial(_wait_for_end, context.instance, context.run_id, step_ended)
    threading.Thread(target=_interrupt_after, args=(run_ends, step_ended), daemon=True).start()
    try:
        yield
    finally:
        step_ended.set()


def _has_own_process(context: dg.OpExecutionContext) -> bool:
    step_key = context.get_step_execution_context().step.key
    started = context.instance.all_logs(context.run_id, of_type={dg.DagsterEventType.STEP_WORKER_STARTING})
    return any(record.step_key == step_key for record in started)


def _wait_for_end(instance: dg.DagsterInstance, run_id: str, step_ended: threading.Event) -> None:
    """Wait until the step has ended, or its run has a final status or was deleted."""
    while not step_ended.wait(_CHECK_SECONDS):
        try:
            run = instance.get_run_by_id(run_id)
        except Exception as error:  # noqa: BLE001  # those of a database that cannot be reached for a while
            logger.debug("cannot read the status of run %s: %s", run_id, error)
            continue
        if run is None or run.is_finished:
            return


def _interrupt_after(run_ends: Callable[[], None], step_ended: threading.Event) -> None:
    run_ends()
    if not step_ended.is_set():
        os.kill(os.getpid(), signal.SIGTERM)

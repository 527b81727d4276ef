"""Interrupt of a step when the process of its run is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


def end_with_run(context: dg.OpExecutionContext) -> None:
    """Interrupt this step when its run's process is killed.

    Dagster's multiprocess executor does not end its steps then. dbt would continue and lock its database while the run
    is retried.

    Args:
        context: The step's context.
    """
    run = multiprocessing.parent_process()
    # The process of a run with steps inside also has a parent, the code server. It continues without it.
    if run is not None and _has_own_process(context):
        threading.Thread(target=_interrupt_after, args=(run,), daemon=True).start()


def _has_own_process(context: dg.OpExecutionContext) -> bool:
    step_key = context.get_step_execution_context().step.key
    started = context.instance.all_logs(context.run_id, of_type={dg.DagsterEventType.STEP_WORKER_STARTING})
    return any(record.step_key == step_key for record in started)


def _interrupt_after(run: BaseProcess) -> None:
    run.join()
    os.kill(os.getpid(), signal.SIGTERM)

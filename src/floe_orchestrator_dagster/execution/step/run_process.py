"""End of a step in a separate process with the process of its run."""

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
    """See to it that this step is interrupted when its run's process is killed.

    Dagster's multiprocess executor leaves its steps alone then: dbt would go on, and hold its database, while the run
    is retried.

    Args:
        context: The step's.
    """
    run = multiprocessing.parent_process()
    # A run that the code server started, with its steps inside, has a parent too; it does not end with that.
    if run is not None and _is_step_of_its_own(context):
        threading.Thread(target=_interrupt_after, args=(run,), daemon=True).start()


def _is_step_of_its_own(context: dg.OpExecutionContext) -> bool:
    step_key = context.get_step_execution_context().step.key
    started = context.instance.all_logs(context.run_id, of_type={dg.DagsterEventType.STEP_WORKER_STARTING})
    return any(record.step_key == step_key for record in started)


def _interrupt_after(run: BaseProcess) -> None:
    run.join()
    os.kill(os.getpid(), signal.SIGTERM)

"""Closing of a step's generators when Dagster reports its failure, for interrupts at any place.

Annotations are evaluated in this module: Dagster reads those of the step.
"""

import gc
import threading
import types
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.upstream.dagster_step_end import close_with_step

# As a reference cycle does, it keeps the garbage collector from closing them.
_kept: list[Generator[dg.Output[None], None, None]] = []


class _Refusing(dg.IOManager):
    """Stands where Dagster looks at an output, and may be interrupted."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:  # noqa: ARG002  # Dagster's
        raise dg.DagsterExecutionInterruptedError

    def load_input(self, context: dg.InputContext) -> None:
        """Nothing reads it."""


def _job(problem: Exception | None = None) -> dg.JobDefinition:
    @dg.op(out={"first": dg.Out(), "second": dg.Out(is_required=False)})
    def step(context: dg.OpExecutionContext) -> Iterator[Any]:
        def outputs() -> Generator[dg.Output[None], None, None]:
            try:
                yield dg.Output(None, output_name="first")
                yield dg.Output(None, output_name="second")
            finally:
                context.log.info("closed")
                if problem is not None:
                    raise problem

        _kept.append(outputs())
        close_with_step(context, _kept[-1])
        yield from _kept[-1]

    @dg.job(resource_defs={"io_manager": dg.IOManagerDefinition.hardcoded_io_manager(_Refusing())})
    def job() -> None:
        step()

    return job


def _said(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    for thread in threading.enumerate():
        if thread.name == "end of step":
            thread.join(10)
    return [entry.user_message for entry in instance.all_logs(run_id) if entry.dagster_event is None]


def test_it_is_closed_with_the_failure_of_the_step(tmp_path: Path) -> None:
    # A thread writes to the log: the database in memory of an ephemeral instance does not wait for its locks.
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            _job().execute_in_process(instance=instance)
        [run] = instance.get_runs()

        assert _said(instance, run.run_id) == ["closed"]


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (FloeDagsterError("the backend is gone"), "the backend is gone"),
        (ConnectionError("the database is gone"), "ConnectionError: the database is gone"),
    ],
)
def test_error_while_closing_is_logged_and_the_interrupt_is_kept(
    tmp_path: Path, problem: Exception, message: str
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            _job(problem).execute_in_process(instance=instance)
        [run] = instance.get_runs()

        assert _said(instance, run.run_id) == ["closed", message]
        assert run.is_finished


def test_nothing_of_a_step_is_kept_once_it_has_ended() -> None:
    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        outputs = (number for number in range(3))
        close_with_step(context, outputs)
        assert len(_listeners()) == 1
        list(outputs)

    @dg.job
    def job() -> None:
        step.alias("first")()
        step.alias("second")()

    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            assert job.execute_in_process(instance=instance).success
            assert _listeners() == []


def _listeners() -> list[object]:
    gc.collect()
    functions = (found for found in gc.get_objects() if isinstance(found, types.FunctionType))
    return [found for found in functions if found.__qualname__ == f"{close_with_step.__qualname__}.<locals>.close"]

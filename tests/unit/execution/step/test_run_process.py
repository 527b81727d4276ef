"""A step in a pod of its own ends with its run."""

from __future__ import annotations

from processes import run_python

# Steps like those in pods: an executor has announced their worker, and this process has no parent of Dagster's.
_STEPS = """
import sys, time
import dagster as dg
from floe_orchestrator_dagster.execution.step import step_invocation

step_invocation._CHECK_SECONDS = 0.1

def run(name, in_pod, ends_inside, ends_afterwards, seconds):
    @dg.op
    def step(context):
        if in_pod:
            dg.DagsterEvent.step_worker_starting(context.get_step_execution_context(), "in a pod of its own", {})
        with step_invocation.ended_with_run(context):
            if ends_inside:
                context.instance.report_run_failed(context.run)
            time.sleep(seconds)
        if ends_afterwards:
            context.instance.report_run_failed(context.run)
            time.sleep(seconds)
        print(name, flush=True)

    with dg.DagsterInstance.ephemeral() as instance:
        dg.GraphDefinition(name, node_defs=[step]).execute_in_process(instance=instance)

"""


def test_step_in_its_own_pod_is_interrupted_when_its_run_has_ended() -> None:
    printed = run_python("-c", f"{_STEPS}run('interrupted', True, True, False, 60)", check=False)

    assert printed.stdout == ""
    assert printed.stderr.strip().endswith("DagsterExecutionInterruptedError")


def test_other_steps_go_on() -> None:
    steps = (
        "run('run_goes_on', True, False, False, 1)",
        "run('step_is_over', True, False, True, 1)",
        "run('in_pod_of_run', False, True, False, 1)",
    )

    printed = run_python("-c", _STEPS + "\n".join(steps))

    assert printed.stdout.split() == ["run_goes_on", "step_is_over", "in_pod_of_run"]

"""A step whose tries yield the events that a test defines.

Annotations are evaluated in this module: Dagster reads those of the step. Dagster loads the test's own module a second
time for a re-execution, and not this one: what a test wrote down is here.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from floe_orchestrator_dagster.execution.step.retry import Done, done_before, handed_over

A, B, SOURCE = dg.AssetKey("a"), dg.AssetKey("b"), dg.AssetKey("source")
UNIQUE, UNIT, BOTH, ON_SOURCE = (
    dg.AssetCheckKey(A, "unique"),
    dg.AssetCheckKey(A, "unit"),
    dg.AssetCheckKey(A, "both"),
    dg.AssetCheckKey(SOURCE, "on_source"),
)
CHECKS = (UNIQUE, UNIT, BOTH, ON_SOURCE)
READS = {UNIQUE: {A}, UNIT: {A}, BOTH: {A, B}, ON_SOURCE: set[dg.AssetKey]()}
# Events of each try of the step before it fails, and the completed work that each try finds.
tries: list[list[Any]] = []
found: list[Done] = []


def job_of(max_retries: int) -> dg.JobDefinition:
    """Define a job whose step does what the next of the tries says, and fails while there are more."""

    @dg.multi_asset(
        name="step",
        specs=[dg.AssetSpec(key, skippable=True) for key in (A, B)],
        check_specs=[dg.AssetCheckSpec(key.name, asset=key.asset_key) for key in CHECKS if key.asset_key == A],
        can_subset=True,
        retry_policy=dg.RetryPolicy(max_retries=max_retries) if max_retries else None,
    )
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        done = done_before(context.op_execution_context, READS)
        found.append(done)
        stand = {key: one for key, one in done.checks.items() if key in context.selected_asset_check_keys}
        yield from handed_over(context.op_execution_context, done.assets, stand)
        for one in tries.pop(0):
            yield dg.AssetCheckEvaluation(**one) if isinstance(one, dict) else one
        if tries:
            raise dg.Failure

    return dg.Definitions(
        assets=[step], jobs=[dg.define_asset_job("job", "*")], executor=dg.in_process_executor
    ).resolve_job_def("job")

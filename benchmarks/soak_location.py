"""Code location of ``soak.py``: a product's job, and a sensor that requests a run when the last one has ended."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

RUNS_VARIABLE = "FLOE_SOAK_RUNS"
WHO_VARIABLE = "FLOE_SOAK_WHO"
ARTIFACTS_VARIABLE = "FLOE_ARTIFACTS_PATH"


def product(who: str, artifacts: Path) -> tuple[dg.Definitions, str]:
    """Return the definitions of ``stock`` (plain dagster-dbt) or ``floe``, and the name of the job."""
    if who == "floe":
        from floe_orchestrator_dagster.definitions import defs

        return defs(), "retail_orders"
    from dagster_dbt import DbtCliResource, dbt_assets

    project = artifacts.parent

    @dbt_assets(manifest=project / "target" / "manifest.json")
    def everything(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
        yield from dbt.cli(["build"], context=context).stream()

    dbt = DbtCliResource(project_dir=str(project), profiles_dir=str(project / ".profiles"))
    jobs = [dg.define_asset_job("build_everything", executor_def=dg.in_process_executor)]
    return dg.Definitions([everything], jobs=jobs, resources={"dbt": dbt}), "build_everything"


def location() -> dg.Definitions:
    """Add the sensor to the product."""
    definitions, job = product(os.environ[WHO_VARIABLE], Path(os.environ[ARTIFACTS_VARIABLE]))
    runs = int(os.environ[RUNS_VARIABLE])

    @dg.sensor(job_name=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
    def again(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
        statuses = [run.is_finished for run in context.instance.get_runs()]
        if all(statuses) and len(statuses) < runs:
            yield dg.RunRequest(run_key=str(len(statuses)))

    return dg.Definitions.merge(definitions, dg.Definitions(sensors=[again]))


defs = dg.Definitions() if WHO_VARIABLE not in os.environ else location()

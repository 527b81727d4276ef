"""Jobs, schedules and sensors of a plan."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.config.automation import AssetSensorConfig, RunStatusSensorConfig
from floe_orchestrator_dagster.inspect.plan.parts import JobPlan, SchedulePlan, SensorPlan
from floe_orchestrator_dagster.upstream.dagster_ticks import ticks_after

if TYPE_CHECKING:
    from datetime import datetime

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.upstream.dagster_types import AssetGraph

_TICKS = 3
_AUTOMATION = ("AUTOMATION", "AUTO_MATERIALIZE")
# Dagster's tag with the kind of a step; assets have kinds instead.
_KIND_TAG = "dagster/compute_kind"


def planned_job(job: dg.JobDefinition, graph: AssetGraph) -> JobPlan:
    """Count assets, checks, steps and dbt invocations in a run of a whole job."""
    own = job.asset_layer.asset_graph
    with_dbt = {
        definition.node_def.name
        for definition in graph.assets_defs
        if definition.is_materializable and any("dbt" in spec.kinds for spec in definition.specs)
    }
    definitions = [node.definition for node in job.graph.nodes]
    return JobPlan(
        name=job.name,
        assets=len(own.materializable_asset_keys & set(job.asset_layer.executable_asset_keys)),
        checks=len(own.asset_check_keys),
        steps=len(job.graph.nodes),
        dbt_invocations=sum(
            definition.name in with_dbt or definition.tags.get(_KIND_TAG) == "dbt" for definition in definitions
        ),
    )


def planned_schedule(schedule: dg.ScheduleDefinition, config: DagsterConfig, now: datetime) -> SchedulePlan:
    """Describe a schedule: its state, its next ticks after ``now``, and its selection of the job."""
    declared = next((entry for entry in config.schedules if entry.name == schedule.name), None)
    cron, zone = schedule.cron_schedule, schedule.execution_timezone or "UTC"
    return SchedulePlan(
        name=schedule.name,
        job=schedule.job_name,
        cron=cron if isinstance(cron, str) else "; ".join(cron),
        timezone=zone,
        running=schedule.default_status is dg.DefaultScheduleStatus.RUNNING,
        next_ticks=tuple(islice(ticks_after(now, cron, zone), _TICKS)),
        select=declared.select if declared else None,
        exclude=declared.exclude if declared else None,
    )


def planned_sensor(sensor: dg.SensorDefinition, product: Product) -> SensorPlan:
    """Describe a sensor: its state, and what it watches and launches."""
    declared = next((entry for entry in product.config.sensors if entry.name == sensor.name), None)
    jobs = (declared.jobs or [product.identifier]) if isinstance(declared, RunStatusSensorConfig) else []
    return SensorPlan(
        name=sensor.name,
        type="automation" if sensor.sensor_type.name in _AUTOMATION else sensor.sensor_type.value.lower(),
        jobs=tuple(target.job_name for target in sensor.targets),
        running=sensor.default_status is dg.DefaultSensorStatus.RUNNING,
        watches=(declared.asset,) if isinstance(declared, AssetSensorConfig) else tuple(jobs),
        status=declared.status if isinstance(declared, RunStatusSensorConfig) else None,
    )

"""Configured sensors, which launch a job after the end of a run or the materialization of an asset."""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003  # Dagster resolves the annotations of sensor functions
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.targets import partition_requests, requested_partitions
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.automation import RunStatusSensorConfig
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.config.automation import AssetSensorConfig
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.upstream.dagster_types import UnresolvedAssetJobDefinition

_STATUSES = {
    "success": dg.DagsterRunStatus.SUCCESS,
    "failure": dg.DagsterRunStatus.FAILURE,
    "canceled": dg.DagsterRunStatus.CANCELED,
}


def product_sensors(
    product: Product, targets: Targets, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """Define the configured sensors.

    Args:
        product: The product, with a configuration that ``check_automation`` has accepted.
        targets: Its assets.
        jobs: Its jobs by name.

    Raises:
        ConfigError: Some sensors watch an asset that their job builds. The message lists all.
    """
    sensors: list[dg.SensorDefinition] = []
    problems: list[Problem] = []
    for row, entry in enumerate(product.config.sensors):
        if isinstance(entry, RunStatusSensorConfig):
            watched = [jobs[name] for name in entry.jobs or [product.identifier]]
            partitions = _partitions(product, targets, entry.job)
            sensors.append(_run_status_sensor(entry, watched, jobs[entry.job], partitions))
            continue
        key, job = dg.AssetKey(entry.asset.split("/")), entry.job or product.identifier
        if key in targets.job_keys(product, job):
            what = f"{entry.asset!r} is an asset that the job {job!r} builds, so that it would launch itself repeatedly"
            fix = f"Watch an asset that the job does not build, or launch another job. {CORRECT_IT}"
            problems.append(Problem(config_path("sensors", row, "asset"), what, fix))
        else:
            sensors.append(_asset_sensor(entry, key, jobs[job], _partitions(product, targets, job)))
    if problems:
        raise ConfigError(product.origin, problems)
    return sensors


def _run_status_sensor(
    entry: RunStatusSensorConfig,
    watched: list[UnresolvedAssetJobDefinition],
    launched: UnresolvedAssetJobDefinition,
    partitions: dg.PartitionsDefinition[str] | None,
) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=_STATUSES[entry.status],
        name=entry.name,
        monitored_jobs=watched,
        request_job=launched,
        default_status=_default_status(enabled=entry.enabled),
        description=f"Launches {launched.name} when a run of {', '.join(job.name for job in watched)} "
        f"ended with status {entry.status}.",
    )
    def sensor(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        # The key prevents a second launch for the same run.
        yield from _requests(context.dagster_run.run_id, partitions)

    return sensor


def _asset_sensor(
    entry: AssetSensorConfig,
    key: dg.AssetKey,
    launched: UnresolvedAssetJobDefinition,
    partitions: dg.PartitionsDefinition[str] | None,
) -> dg.SensorDefinition:
    @dg.asset_sensor(
        asset_key=key,
        name=entry.name,
        job=launched,
        default_status=_default_status(enabled=entry.enabled),
        description=f"Launches {launched.name} when {entry.asset} was materialized.",
    )
    def sensor(
        _context: dg.SensorEvaluationContext, event: dg.EventLogEntry
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        # The key prevents a second launch for the same materialization.
        yield from _requests(f"{event.run_id}:{event.timestamp}", partitions)

    return sensor


def _partitions(product: Product, targets: Targets, job: str) -> dg.PartitionsDefinition[str] | None:
    found = targets.partitions_of(targets.job_keys(product, job)) if product.config.partitions else []
    return found[0] if found else None


def _requests(run_key: str, partitions: dg.PartitionsDefinition[str] | None) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request a run of the job for its newest time partition, or a run for each of its static partitions."""
    if partitions is None:
        yield dg.RunRequest(run_key=run_key)
        return
    now = datetime.now(tz=timezone.utc)
    yield from partition_requests(run_key, requested_partitions(partitions, now, now), None, {})


def _default_status(*, enabled: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if enabled else dg.DefaultSensorStatus.STOPPED

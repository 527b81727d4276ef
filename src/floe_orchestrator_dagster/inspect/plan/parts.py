"""Dataclasses of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class AssetPlan:
    """An asset.

    Attributes:
        key: Its parts joined by slashes.
        group: Name of its group.
        external: Whether the product reads it without building it.
        tier: Declared quality tier; None when not declared.
        compute: Compute that builds it; None for an external asset.
        materialization: dbt's materialization, such as ``table``; None when unknown.
        kinds: Kinds of the asset.
        owners: Email addresses and ``team:`` names.
        partitions: Dagster's description of its partitions; None without partitions.
        upstream: Keys of the assets that it reads.
        checks: Number of its checks.
        blocking_checks: Number of its checks that block downstream assets.
    """

    key: str
    group: str
    external: bool
    tier: str | None
    compute: str | None
    materialization: str | None
    kinds: tuple[str, ...]
    owners: tuple[str, ...]
    partitions: str | None
    upstream: tuple[str, ...]
    checks: int
    blocking_checks: int


@dataclass(frozen=True)
class StepPlan:
    """A step that builds a part of the product with dbt.

    Attributes:
        name: Name of the step.
        assets: Keys of the assets that it builds.
        checks: Number of the checks that it runs.
        compute: Compute of its assets.
        after: Names of the steps that run before it.
        resources: Requests and limits of its pod with the executor ``k8s``; None for the default.
    """

    name: str
    assets: tuple[str, ...]
    checks: int
    compute: str | None
    after: tuple[str, ...]
    resources: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True)
class JobPlan:
    """A job.

    Attributes:
        name: Name of the job.
        assets: Number of assets that it builds.
        checks: Number of checks that it runs.
        steps: Number of steps in a run of the whole job.
        dbt_invocations: Number of dbt invocations in such a run: one per step that builds nodes, runs tests after all
            stages, or checks source freshness.
        selection: What a configured job selects, as ``tag:daily without stg``; None for all assets.
        options: Options of dbt of its runs, by name.
    """

    name: str
    assets: int
    checks: int
    steps: int
    dbt_invocations: int
    selection: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SchedulePlan:
    """A schedule.

    Attributes:
        name: Name of the schedule.
        job: Job that it runs.
        cron: One cron, or several separated by ``; ``.
        timezone: IANA name.
        running: Whether it starts running when the code location is loaded.
        next_ticks: Times of the next ticks, in its timezone.
        select: dbt selection of the job's assets that it runs, such as ``tag:daily`` or ``selector:daily``; None for
            all of them.
        exclude: dbt selection of excluded assets; None for none.
        dagster: Asset selection of Dagster, instead of ``select``.
        options: Options of dbt that the schedule sets, by name.
    """

    name: str
    job: str
    cron: str
    timezone: str
    running: bool
    next_ticks: tuple[datetime, ...]
    select: str | None = None
    exclude: str | None = None
    dagster: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SensorPlan:
    """A sensor.

    Attributes:
        name: Name of the sensor.
        type: ``asset``, ``run_status``, ``standard``, or ``automation`` for the sensor of automation conditions.
        jobs: Jobs that it can launch.
        running: Whether it starts running when the code location is loaded.
        watches: Names of jobs or keys of assets that it watches; empty for other types.
        status: Status of the watched runs, such as ``failure``; None for other types.
    """

    name: str
    type: str
    jobs: tuple[str, ...]
    running: bool
    watches: tuple[str, ...] = ()
    status: str | None = None


@dataclass(frozen=True)
class AutomationPlan:
    """An automation condition.

    Attributes:
        condition: Dagster's label of the condition.
        assets: Keys of the assets with this condition.
    """

    condition: str
    assets: tuple[str, ...]


@dataclass(frozen=True)
class PoolPlan:
    """A concurrency pool of steps.

    Attributes:
        name: Name of the pool.
        limit: Configured number of slots; None when not configured.
        command: The command that sets the limit in the Dagster instance; None without a limit.
    """

    name: str
    limit: int | None
    command: str | None


@dataclass(frozen=True)
class RunPlan:
    """Settings of each run.

    Attributes:
        executor: Name of the executor; None for the Dagster instance's default.
        max_concurrent: Maximum number of concurrent steps; None for the executor's default.
        max_retries: Maximum number of retries of a step.
        delay_seconds: Delay before a retry, in seconds.
        timeout_seconds: Maximum duration of a run in seconds; None for no limit.
    """

    executor: str | None = None
    max_concurrent: int | None = None
    max_retries: int = 0
    delay_seconds: float = 0
    timeout_seconds: int | None = None


@dataclass(frozen=True)
class Plan:
    """The plan of a product.

    Attributes:
        product: Name of the product.
        version: Version of the product.
        domain: Domain of the product.
        artifacts: Path of its artifacts.
        dbt_project: Directory of its dbt project; None without one.
        dbt_engine: dbt engine and version, such as ``dbt-core 1.12.6``; engines of other computes follow, each with the
            computes. None without a dbt project.
        dbt_target: dbt profile and target, such as ``retail_orders.dev``; None when there is none or it is unknown.
        assets: All assets, in topological order.
        checks: Number of checks.
        blocking_checks: Number of checks that block downstream assets.
        jobs: Jobs; the main job has the product's name.
        schedules: Schedules.
        sensors: Sensors.
        automation: Automation conditions.
        pools: Pools of the product's steps.
        runs: Settings of each run.
        steps: The steps that build the assets with dbt, in the order of their dependencies.
        unused_sources: Number of sources in the dbt project that are not assets, because nothing uses them.
    """

    product: str
    version: str
    domain: str
    artifacts: str
    dbt_project: str | None
    dbt_engine: str | None
    dbt_target: str | None
    assets: tuple[AssetPlan, ...]
    checks: int
    blocking_checks: int
    jobs: tuple[JobPlan, ...]
    schedules: tuple[SchedulePlan, ...]
    sensors: tuple[SensorPlan, ...]
    automation: tuple[AutomationPlan, ...]
    pools: tuple[PoolPlan, ...]
    runs: RunPlan = RunPlan()
    steps: tuple[StepPlan, ...] = ()
    unused_sources: int = 0

    @property
    def built(self) -> tuple[AssetPlan, ...]:
        """The assets that this product builds."""
        return tuple(asset for asset in self.assets if not asset.external)

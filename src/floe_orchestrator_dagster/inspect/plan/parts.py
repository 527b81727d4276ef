"""The parts of a plan, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class AssetPlan:
    """An asset.

    Attributes:
        key: Its parts joined by slashes.
        group: Name of its group.
        external: Whether something else than this product makes it.
        tier: Declared quality tier; None when undeclared.
        compute: Compute that builds it; None when nothing here does.
        materialization: dbt's materialization, such as ``table``; None when unknown.
        kinds: Labels on the asset.
        owners: Email addresses and ``team:`` names.
        partitions: Its partitions, in Dagster's words; None without.
        upstream: Keys that it reads.
        checks: How many checks it has.
        blocking_checks: How many of them stop what is downstream.
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
class JobPlan:
    """A job.

    Attributes:
        name: Name of the job.
        assets: How many assets it builds.
        checks: How many checks it runs.
        steps: How many steps a run of all of it has.
        dbt_invocations: How often such a run starts dbt: once in each step that builds, tests late or looks at the
            freshness of sources.
    """

    name: str
    assets: int
    checks: int
    steps: int
    dbt_invocations: int


@dataclass(frozen=True)
class SchedulePlan:
    """A schedule.

    Attributes:
        name: Name of the schedule.
        job: Job that it runs.
        cron: One cron, or several separated by ``; ``.
        timezone: IANA name.
        running: Whether it is running once the code location is loaded.
        next_ticks: The next instants, in its timezone.
        select: dbt selection of the part of the job that it runs; None for all of it.
        exclude: dbt selection of what it leaves out; None without.
    """

    name: str
    job: str
    cron: str
    timezone: str
    running: bool
    next_ticks: tuple[datetime, ...]
    select: str | None = None
    exclude: str | None = None


@dataclass(frozen=True)
class SensorPlan:
    """A sensor.

    Attributes:
        name: Name of the sensor.
        type: ``asset``, ``run_status``, ``standard``, or ``automation`` for the one that follows automation conditions.
        jobs: Jobs that it may launch.
        running: Whether it is running once the code location is loaded.
        watches: Names of the jobs, or keys of the assets, that it waits for; none for one that waits for other things.
        status: How a run of these jobs has to end, such as ``failure``; None for other types.
    """

    name: str
    type: str
    jobs: tuple[str, ...]
    running: bool
    watches: tuple[str, ...] = ()
    status: str | None = None


@dataclass(frozen=True)
class AutomationPlan:
    """A rule by which Dagster materializes assets by itself.

    Attributes:
        condition: The rule, in Dagster's words.
        assets: Keys of the assets that follow it.
    """

    condition: str
    assets: tuple[str, ...]


@dataclass(frozen=True)
class PoolPlan:
    """A pool that steps take slots of.

    Attributes:
        name: Name of the pool.
        limit: Slots it should have; None when the configuration names none.
        command: What sets the limit in the Dagster instance; None without a limit.
    """

    name: str
    limit: int | None
    command: str | None


@dataclass(frozen=True)
class RunPlan:
    """What holds for each run.

    Attributes:
        executor: Name of the executor; None where the Dagster instance's default counts.
        max_concurrent: Most steps at a time; None where the executor decides.
        max_retries: How often a failed step is tried again.
        delay_seconds: Wait before a try (s).
        timeout_seconds: How long a run may take (s); None for as long as it takes.
    """

    executor: str | None = None
    max_concurrent: int | None = None
    max_retries: int = 0
    delay_seconds: float = 0
    timeout_seconds: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a product will be in Dagster.

    Attributes:
        product: Name of the product.
        version: Version of the product.
        domain: Domain of the product.
        artifacts: Where it was read.
        dbt_project: Directory of its dbt project; None without.
        dbt_target: dbt profile and target in use, such as ``retail_orders.dev``; None without, or while undecided.
        assets: All assets, each after what it reads.
        checks: How many checks there are.
        blocking_checks: How many of them stop what is downstream.
        jobs: Jobs; the product's own is called like the product.
        schedules: Schedules.
        sensors: Sensors.
        automation: Rules by which Dagster materializes assets by itself.
        pools: Pools of the product's steps.
        runs: What holds for each run.
    """

    product: str
    version: str
    domain: str
    artifacts: str
    dbt_project: str | None
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

    @property
    def built(self) -> tuple[AssetPlan, ...]:
        """The assets that this product makes."""
        return tuple(asset for asset in self.assets if not asset.external)

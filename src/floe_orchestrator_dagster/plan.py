"""What a product will be in Dagster, as plain values taken from its built ``Definitions``."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph, AssetNode

    from floe_orchestrator_dagster.product import Product

_TICKS = 3
_AUTOMATION = ("AUTOMATION", "AUTO_MATERIALIZE")
_NOT_SHOWN = "__"  # Dagster's own jobs begin with it


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
        dbt_invocations: How many of these start dbt to build assets.
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
    """

    name: str
    job: str
    cron: str
    timezone: str
    running: bool
    next_ticks: tuple[datetime, ...]


@dataclass(frozen=True)
class SensorPlan:
    """A sensor.

    Attributes:
        name: Name of the sensor.
        type: ``asset``, ``run_status``, ``standard``, or ``automation`` for the one that follows automation conditions.
        jobs: Jobs that it may launch.
        running: Whether it is running once the code location is loaded.
    """

    name: str
    type: str
    jobs: tuple[str, ...]
    running: bool


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

    @property
    def built(self) -> tuple[AssetPlan, ...]:
        """The assets that this product makes."""
        return tuple(asset for asset in self.assets if not asset.external)


def plan_product(product: Product, definitions: dg.Definitions, now: datetime | None = None) -> Plan:
    """Take the plan from the ``Definitions`` of a product.

    Args:
        product: The product that they were built from.
        definitions: All that Dagster will know of it.
        now: Instant after which schedules tick, with a timezone; this one when left out.
    """
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    dbt = product.dbt
    target = dbt.profile.target if dbt else None
    assets = tuple(_assets(graph))
    return Plan(
        product=product.name,
        version=product.artifacts.metadata.product_version,
        domain=product.artifacts.identity.domain,
        artifacts=product.origin,
        dbt_project=str(dbt.directory.path) if dbt else None,
        dbt_target=f"{dbt.profile.name}.{target}" if dbt and target else None,
        assets=assets,
        checks=sum(asset.checks for asset in assets),
        blocking_checks=sum(asset.blocking_checks for asset in assets),
        jobs=tuple(_job(job, graph) for job in repository.get_all_jobs() if not job.name.startswith(_NOT_SHOWN)),
        schedules=tuple(
            _schedule(schedule, now or datetime.now(tz=timezone.utc)) for schedule in repository.schedule_defs
        ),
        sensors=tuple(_sensor(sensor) for sensor in repository.sensor_defs),
        automation=tuple(_automation(graph)),
        pools=tuple(_pools(product, graph)),
    )


def _assets(graph: AssetGraph) -> Iterable[AssetPlan]:
    checks = Counter(key.asset_key for key in graph.asset_check_keys)
    blocking = Counter(key.asset_key for key in graph.asset_check_keys if graph.get(key).blocking)
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        yield AssetPlan(
            key=key.to_user_string(),
            group=node.group_name,
            external=node.is_external,
            tier=node.tags.get("floe/tier"),
            compute=None if node.is_external else _text(node, "floe/compute"),
            materialization=_text(node, "dagster-dbt/materialization_type"),
            kinds=tuple(sorted(node.kinds)),
            owners=tuple(node.owners),
            partitions=str(node.partitions_def) if node.partitions_def else None,
            upstream=tuple(sorted(parent.to_user_string() for parent in node.parent_keys)),
            checks=checks[key],
            blocking_checks=blocking[key],
        )


def _text(node: AssetNode, key: str) -> str | None:
    value = node.metadata.get(key)
    text = getattr(value, "value", value)
    return text if isinstance(text, str) else None


def _job(job: dg.JobDefinition, graph: AssetGraph) -> JobPlan:
    own = job.asset_layer.asset_graph
    builds_with_dbt = {
        definition.node_def.name
        for definition in graph.assets_defs
        if definition.is_materializable and any("dbt" in spec.kinds for spec in definition.specs)
    }
    return JobPlan(
        name=job.name,
        assets=len(own.materializable_asset_keys & set(job.asset_layer.executable_asset_keys)),
        checks=len(own.asset_check_keys),
        steps=len(job.graph.nodes),
        dbt_invocations=sum(node.definition.name in builds_with_dbt for node in job.graph.nodes),
    )


def _schedule(schedule: dg.ScheduleDefinition, now: datetime) -> SchedulePlan:
    cron, zone = schedule.cron_schedule, schedule.execution_timezone or "UTC"
    ticks = schedule_execution_time_iterator(now.timestamp(), cron, zone, ascending=True)
    return SchedulePlan(
        name=schedule.name,
        job=schedule.job_name,
        cron=cron if isinstance(cron, str) else "; ".join(cron),
        timezone=zone,
        running=schedule.default_status is dg.DefaultScheduleStatus.RUNNING,
        next_ticks=tuple(islice(ticks, _TICKS)),
    )


def _sensor(sensor: dg.SensorDefinition) -> SensorPlan:
    return SensorPlan(
        name=sensor.name,
        type="automation" if sensor.sensor_type.name in _AUTOMATION else sensor.sensor_type.value.lower(),
        jobs=tuple(target.job_name for target in sensor.targets),
        running=sensor.default_status is dg.DefaultSensorStatus.RUNNING,
    )


def _automation(graph: AssetGraph) -> Iterable[AutomationPlan]:
    rules: dict[str, list[str]] = {}
    for key in graph.toposorted_asset_keys:
        condition = graph.get(key).automation_condition
        if condition is not None:
            rules.setdefault(condition.get_label() or type(condition).__name__, []).append(key.to_user_string())
    return [AutomationPlan(rule, tuple(keys)) for rule, keys in rules.items()]


def _pools(product: Product, graph: AssetGraph) -> Sequence[PoolPlan]:
    wanted = product.config.concurrency
    used = {pool for key in graph.toposorted_asset_keys for pool in graph.get(key).pools or ()}
    limits = {**dict.fromkeys(sorted(used)), **({wanted.pool: wanted.limit} if wanted else {})}
    return [PoolPlan(name, limit, _limit_command(name, limit) if limit else None) for name, limit in limits.items()]


def _limit_command(pool: str, limit: int) -> str:
    return shlex.join(["dagster", "instance", "concurrency", "set", pool, str(limit)])

"""Plan of a product: its assets, jobs, schedules and sensors in Dagster, as plain values."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.attributes import AssetAttributes
from floe_orchestrator_dagster.assets.graph import dependency_order
from floe_orchestrator_dagster.assets.sources import asset_sources
from floe_orchestrator_dagster.assets.steps import K8S_CONFIG_TAG
from floe_orchestrator_dagster.automation.jobs import max_concurrent_steps
from floe_orchestrator_dagster.config.automation import AssetSensorConfig, RunStatusSensorConfig
from floe_orchestrator_dagster.inspect.plan.parts import (
    AssetPlan,
    AutomationPlan,
    JobPlan,
    Plan,
    PoolPlan,
    RunPlan,
    SchedulePlan,
    SensorPlan,
    StepPlan,
)
from floe_orchestrator_dagster.upstream.dagster_ticks import ticks_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.product import Product
    from floe_orchestrator_dagster.upstream.dagster_types import AssetGraph, AssetNode


_TICKS = 3
_AUTOMATION = ("AUTOMATION", "AUTO_MATERIALIZE")
# Dagster's tag with the kind of a step; assets have kinds instead.
_KIND_TAG = "dagster/compute_kind"
__all__ = [
    "AssetPlan",
    "AutomationPlan",
    "JobPlan",
    "Plan",
    "PoolPlan",
    "RunPlan",
    "SchedulePlan",
    "SensorPlan",
    "StepPlan",
    "plan_product",
]

_NOT_SHOWN = "__"  # prefix of Dagster's implicit jobs
_NO_ENGINE = "none is installed"


def plan_product(product: Product, definitions: dg.Definitions, now: datetime | None = None) -> Plan:
    """Create the plan from the ``Definitions`` of a product.

    Args:
        product: The product.
        definitions: Its Definitions.
        now: Time before the first listed ticks of schedules, with a timezone; None for the current time.
    """
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    dbt = product.dbt
    target = dbt.profile.target if dbt else None
    assets = tuple(_assets(graph))
    instant = now or datetime.now(tz=timezone.utc)
    return Plan(
        product=product.name,
        version=product.artifacts.metadata.product_version,
        domain=product.domain,
        artifacts=product.origin,
        dbt_project=str(dbt.directory.path) if dbt else None,
        dbt_engine=_engine(product),
        dbt_target=f"{dbt.profile.name}.{target}" if dbt and target else None,
        assets=assets,
        checks=sum(asset.checks for asset in assets),
        blocking_checks=sum(asset.blocking_checks for asset in assets),
        jobs=tuple(
            planned_job(job, graph, product.config)
            for job in repository.get_all_jobs()
            if not job.name.startswith(_NOT_SHOWN)
        ),
        schedules=tuple(planned_schedule(schedule, product.config, instant) for schedule in repository.schedule_defs),
        sensors=tuple(planned_sensor(sensor, product) for sensor in repository.sensor_defs),
        automation=tuple(_automation(graph)),
        pools=tuple(_pools(product, graph)),
        runs=_runs(product, definitions),
        steps=planned_steps(graph) if dbt else (),
        unused_sources=_unused_sources(product),
    )


def _unused_sources(product: Product) -> int:
    if product.dbt is None or not product.models:
        return 0
    return len(product.dbt.manifest.content["sources"]) - len(asset_sources(product, AssetAttributes(product)))


def _engine(product: Product) -> str | None:
    """Return the dbt engine of the default compute, followed by other engines, each with its computes."""
    if product.dbt is None:
        return None
    default = str(product.dbt.installed_engine or _NO_ENGINE)
    others: dict[str, list[str]] = {}
    for compute in product.dbt.profiles:
        others.setdefault(str(product.dbt.on(compute).installed_engine or _NO_ENGINE), []).append(compute)
    return "; ".join([default, *(f"{name} on {', '.join(on)}" for name, on in others.items() if name != default)])


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
            compute=None if node.is_external else _text(node, "floe/compute") or node.tags.get("floe/compute"),
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


def _runs(product: Product, definitions: dg.Definitions) -> RunPlan:
    executor, retries = definitions.executor, product.config.retries
    return RunPlan(
        executor=executor.name if isinstance(executor, dg.ExecutorDefinition) else None,
        max_concurrent=max_concurrent_steps(product),
        max_retries=retries.max_retries if retries else 0,
        delay_seconds=retries.delay_seconds if retries else 0,
        timeout_seconds=product.config.timeout_seconds,
    )


def planned_job(job: dg.JobDefinition, graph: AssetGraph, config: DagsterConfig) -> JobPlan:
    """Count assets, checks, steps and dbt invocations in a run of a whole job."""
    declared = next((entry for entry in config.jobs if entry.name == job.name), None)
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
        selection=declared.shown if declared and declared.selects else None,
        options=declared.dbt_options if declared else {},
    )


def planned_steps(graph: AssetGraph) -> tuple[StepPlan, ...]:
    """Describe the steps that build assets with dbt, in the order of their dependencies."""
    built = [
        definition
        for definition in graph.assets_defs
        if definition.is_materializable and any("dbt" in spec.kinds for spec in definition.specs)
    ]
    step_of = {key: definition.node_def.name for definition in built for key in definition.keys}
    above: dict[str, set[str]] = {}
    for definition in sorted(built, key=lambda definition: definition.node_def.name):
        read = {dep.asset_key for spec in definition.specs for dep in spec.deps}
        name = definition.node_def.name
        above.setdefault(name, set()).update({step_of[key] for key in read & step_of.keys()} - {name})
    by_name = {definition.node_def.name: definition for definition in built}
    return tuple(_planned_step(by_name[name], tuple(sorted(above[name]))) for name in dependency_order(above))


def _planned_step(definition: dg.AssetsDefinition, after: tuple[str, ...]) -> StepPlan:
    tagged = definition.node_def.tags.get(K8S_CONFIG_TAG)
    described = json.loads(tagged) if isinstance(tagged, str) else tagged or {}
    computes = (spec.metadata.get("floe/compute", spec.tags.get("floe/compute")) for spec in definition.specs)
    return StepPlan(
        name=definition.node_def.name,
        assets=tuple(sorted(key.to_user_string() for key in definition.keys)),
        checks=len(list(definition.check_specs)),
        compute=next((compute for compute in computes if isinstance(compute, str)), None),
        after=after,
        resources=described.get("container_config", {}).get("resources"),
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
        select=declared.dbt_selection if declared and (declared.select or declared.selector) else None,
        exclude=declared.exclude if declared else None,
        dagster=declared.dagster if declared else None,
        options=declared.dbt_options if declared else {},
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

"""Warnings about settings that have no effect, or not the intended one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytz
from croniter import croniter
from packaging.version import Version

from floe_orchestrator_dagster.assets.attributes import dagster_owners
from floe_orchestrator_dagster.assets.graph import dependency_order
from floe_orchestrator_dagster.assets.partitions import partition_variables, partitioned_nodes, reads_partition
from floe_orchestrator_dagster.automation.cron import check_cron, declared_schedule
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.automation import AssetSensorConfig
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.profiles import is_on_duckdb
from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.assets.selection import NodeSelection
    from floe_orchestrator_dagster.automation.cron import JobSchedule
    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.product import Product


FIXED_IN_DAGSTER = "1.12.21"
"""The first Dagster version that evaluates the minutes of hourly crons in the cron's timezone instead of UTC."""

_SHOWN_MODELS = 5
_SHOWN_MINUTES = 6
_MINUTES_OF_HOUR = 60
_MONTHS = 12
_ANY = ["*"]  # croniter's expansion of a field that is `*`


def ineffective_settings(
    product: Product, selection: NodeSelection, targets: Targets, registered: Sequence[JobSchedule] = ()
) -> list[Problem]:
    """Return a warning for each setting that does not have the intended effect.

    - Partitions whose variables a model does not read, or whose column it does not have.
    - Schedules that the installed Dagster evaluates at other minutes.
    - Parts of the product that no run builds at the same time, or whose resources nothing reads.
    - Names in ``assume_unchanged`` that are not sources.
    - Sensors on assets that the product does not have.
    - Owners in ``alerts`` of whom the product has no assets.
    - Sensors that make jobs launch each other in a cycle.
    """
    return [
        *shifted_schedules(product, registered),
        *_partitions(product, selection),
        *_steps(product, targets),
        *_unknown_sources(product),
        *_unknown_assets(product, targets),
        *_unknown_owners(product, targets),
        *_cycles(product, targets),
    ]


def _partitions(product: Product, selection: NodeSelection) -> Iterator[Problem]:
    rules = product.config.partitions
    if not rules or product.dbt is None:
        return
    nodes = product.dbt.manifest.content["nodes"]
    members: list[list[Mapping[str, Any]]] = [[] for _ in rules]
    for unique_id, row in sorted(partitioned_nodes(product, selection).items()):
        members[row].append(nodes[unique_id])
    for row, (rule, following) in enumerate(zip(rules, members, strict=True)):
        ignoring = [node["name"] for node in following if _ignores(node, rule)]
        if ignoring:
            read = " or ".join(map(repr, partition_variables(rule)))
            kind = "does not read" if rule.type == "static" else "is not microbatch and does not read"
            what = f"each partition builds all of {_listed(ignoring)}: the code {kind} the dbt variable {read}"
            fix = f"Read it with var() in the model, or exclude the model from the partitions. {CORRECT_IT}"
            yield Problem(config_path("partitions", row, "select"), what, fix)
        without = [node["name"] for node in following if rule.time_column and _lacks(node, rule.time_column)]
        if without:
            what = f"{rule.time_column!r} is not a described column of {_listed(without)}"
            yield Problem(config_path("partitions", row, "time_column"), what, CORRECT_IT)


def _steps(product: Product, targets: Targets) -> Iterator[Problem]:
    config = product.config
    if not config.steps:
        return
    if config.executor == "in_process":
        fix = f"Use the executor multiprocess or k8s. {CORRECT_IT}"
        yield Problem(config_path("steps"), "the executor in_process builds one part after the other", fix)
    elif is_on_duckdb(product.artifacts):
        what = "one part is built after the other, because only one process at a time can open a DuckDB file"
        fix = f"Use a compute with a server, or remove `steps` and raise dbt's threads. {CORRECT_IT}"
        yield Problem(config_path("steps"), what, fix)
    elif config.concurrency and config.concurrency.limit == 1:
        what = f"one part is built after the other, because the pool {config.concurrency.pool!r} has one slot"
        yield Problem(config_path("steps"), what, f"Raise `concurrency.limit`, or remove `steps`. {CORRECT_IT}")
    elif _is_sequence(targets) and not any(step.resources for step in config.steps):
        what = "no two steps are built at the same time, because each one waits for another one"
        fix = f"Divide the product into parts that do not read each other, or remove `steps`. {CORRECT_IT}"
        yield Problem(config_path("steps"), what, fix)
    if config.executor != "k8s":
        for row, step in enumerate(config.steps):
            if step.resources is not None:
                what = "has no effect: only the executor k8s starts a pod for each part"
                yield Problem(config_path("steps", row, "resources"), what, f"Use `executor: k8s`. {CORRECT_IT}")


def _is_sequence(targets: Targets) -> bool:
    """Return whether each step that builds assets waits for another one, so that they have only one order."""
    built = [asset for asset in targets.assets if isinstance(asset, dg.AssetsDefinition)]
    step_of = {key: asset.op.name for asset in built for key in asset.keys}
    above = {asset.op.name: {step_of[read] for read in _read_by(asset) if read in step_of} for asset in built}
    order = dependency_order({name: read - {name} for name, read in above.items()})
    return all(earlier in above[later] for earlier, later in pairwise(order))


def _read_by(asset: dg.AssetsDefinition) -> set[dg.AssetKey]:
    return {dep.asset_key for spec in asset.specs for dep in spec.deps}


def _ignores(node: Mapping[str, Any], rule: PartitionsConfig) -> bool:
    is_microbatch = node["config"].get("incremental_strategy") == "microbatch"
    if is_microbatch and rule.type != "static":
        return False
    return not reads_partition(node, rule)


def _lacks(node: Mapping[str, Any], column: str) -> bool:
    """Return whether a model with described columns does not have this one."""
    described = {name.lower() for name in node.get("columns") or {}}
    return bool(described) and column.lower() not in described


def _unknown_sources(product: Product) -> Iterator[Problem]:
    if product.dbt is None:
        return
    sources = product.dbt.manifest.content["sources"].values()
    known = {source["source_name"] for source in sources}
    known |= {f"{source['source_name']}.{source['name']}" for source in sources}
    for row, name in enumerate(product.config.assume_unchanged):
        if name not in known:
            fix = f"{did_you_mean(closest(name, known))}Write `source.table` or `source`. {CORRECT_IT}"
            yield Problem(config_path("assume_unchanged", row), f"{name!r} is not a source of the dbt project", fix)


def _unknown_assets(product: Product, targets: Targets) -> Iterator[Problem]:
    watched = [(row, entry) for row, entry in enumerate(product.config.sensors) if isinstance(entry, AssetSensorConfig)]
    if not watched:
        return
    keys = (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key] for asset in targets.assets)
    known = {key.to_user_string() for group in keys for key in group}
    for row, entry in watched:
        if entry.asset not in known:
            what = (
                f"{entry.asset!r} is not an asset of this product: "
                "the sensor waits for another code location to materialize it"
            )
            fix = f"{did_you_mean(closest(entry.asset, known))}Keep it if one does. {CORRECT_IT}"
            yield Problem(config_path("sensors", row, "asset"), what, fix)


def _unknown_owners(product: Product, targets: Targets) -> Iterator[Problem]:
    named = [
        (row, number, owner)
        for row, alert in enumerate(product.config.alerts)
        for number, owner in enumerate(alert.owners)
    ]
    if not named:
        return
    specs = (spec for part in targets.assets for spec in ([part] if isinstance(part, dg.AssetSpec) else part.specs))
    known = {owner for spec in specs for owner in spec.owners} | {*dagster_owners(product.spec.owner)}
    for row, number, owner in named:
        if owner not in known:
            suggestion = closest(owner, known)
            what = f"{owner!r} is not an owner of the product or of one of its assets, so that nothing is sent for it"
            fix = f"{did_you_mean(suggestion)}Write an email address, or `team:` and a name. {CORRECT_IT}"
            yield Problem(config_path("alerts", row, "owners", number), what, fix)


def _cycles(product: Product, targets: Targets) -> Iterator[Problem]:
    followed: dict[str, list[str]] = {}
    for entry in product.config.sensors:
        if isinstance(entry, AssetSensorConfig):
            key, launched = dg.AssetKey(entry.asset.split("/")), entry.job or product.identifier
            watched = [job for job in job_names(product) if key in targets.job_keys(product, job)]
        else:
            launched, watched = entry.job, entry.jobs or [product.identifier]
        followed.setdefault(launched, []).extend(watched)
    try:
        TopologicalSorter(followed).prepare()
    except CycleError as error:
        path = " -> ".join(error.args[1])
        what = f"jobs launch each other in a cycle: {path}"
        yield Problem(config_path("sensors"), what, f"Remove one of the sensors between them. {CORRECT_IT}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN_MODELS]))
    return shown if len(names) <= _SHOWN_MODELS else f"{shown} and {len(names) - _SHOWN_MODELS} more"


def shifted_schedules(product: Product, registered: Sequence[JobSchedule] = ()) -> Iterator[Problem]:
    """Return a warning for each schedule and rule that the installed Dagster evaluates at other minutes."""
    for where, cron, zone in _crons(product, registered):
        problem = shifted_minutes(where, cron, zone)
        if problem:
            yield problem


def shifted_minutes(where: str, cron: str, zone: str, dagster_version: str = dg.__version__) -> Problem | None:
    """Return a warning with the actual minutes of a cron and the fix; None when the cron ticks as written.

    Args:
        where: Place of the cron in the configuration.
        cron: Valid cron: five fields or a macro.
        zone: IANA name of its timezone, valid.
        dagster_version: Version of Dagster.
    """
    if Version(dagster_version) >= Version(FIXED_IN_DAGSTER):
        return None
    field, *others = croniter.expand(check_cron(cron))[0]
    minutes = [minute for minute in field if isinstance(minute, int)]
    if any(other != _ANY for other in others):
        return None
    offsets = _offsets(zone)
    shifted = next((found for found in (_shifted(minutes, offset) for offset in offsets) if found != minutes), None)
    if shifted is None:
        return None
    upgrade = f"Upgrade Dagster to {FIXED_IN_DAGSTER} or newer"
    part, fix = " for a part of the year", f"{upgrade}."
    if len(offsets) == 1:
        written = ",".join(map(str, _shifted(minutes, -offsets[0])))
        part, fix = "", f"{upgrade}, or write '{written} * * * *' while you use {dagster_version}."
    what = f"{cron!r} ticks at {_minutes_text(shifted)} of the hour in {zone}{part}, not at {_minutes_text(minutes)}"
    return Problem(where, f"{what}: Dagster {dagster_version} counts these minutes in UTC", fix)


def _crons(product: Product, registered: Iterable[JobSchedule]) -> Iterator[tuple[str, str, str]]:
    """List place, cron and timezone of a product's schedules and rules."""
    config, own = product.config, declared_schedule(product)
    if own:
        is_declared = product.spec.schedule is not None and product.spec.schedule.cron
        yield "floe.yaml, schedule.cron" if is_declared else config_path("default_schedule"), own.cron, own.timezone
    for row, entry in enumerate(config.schedules):
        yield config_path("schedules", row, "cron"), entry.cron, entry.timezone or config.timezone
    for row, rule in enumerate(config.automation):
        if rule.condition == "on_cron" and rule.cron:
            yield config_path("automation", row, "cron"), rule.cron, rule.timezone or config.timezone
    for schedule in registered:
        yield f"schedule_job of {schedule.job_name!r}", schedule.cron, schedule.timezone


def _offsets(zone: str) -> list[int]:
    """List a timezone's offsets from UTC within the next year, in minutes modulo an hour."""
    now = datetime.now(tz=timezone.utc)
    instants = (now + timedelta(days=30) * month for month in range(_MONTHS + 1))
    offsets = (at.astimezone(pytz.timezone(zone)).utcoffset() or timedelta() for at in instants)
    return sorted({int(offset.total_seconds() // 60) % _MINUTES_OF_HOUR for offset in offsets})


def _shifted(minutes: Iterable[int], offset: int) -> list[int]:
    return sorted((minute + offset) % _MINUTES_OF_HOUR for minute in minutes)


def _minutes_text(minutes: Sequence[int]) -> str:
    shown = ", ".join(map(str, minutes[:_SHOWN_MINUTES])) + (", …" if len(minutes) > _SHOWN_MINUTES else "")
    return f"minute {shown}" if len(minutes) == 1 else f"minutes {shown}"

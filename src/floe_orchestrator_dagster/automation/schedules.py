"""Schedules of a product: the main one, configured ones, and those registered with the plugin's ``schedule_job``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import pytz
from croniter import croniter

from floe_orchestrator_dagster.assets.steps import build_tags, option_tags
from floe_orchestrator_dagster.automation.cron import JobSchedule, checked_schedule, declared_schedule
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.automation.targets import (
    partition_requests,
    partitions_by_job,
    requested_partitions,
)
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.product import Product

_WORDS = {"*": "any", "-": "to", ",": "and", "/": "every", "@": "at", "#": "nth", "?": "some", "+": "plus", " ": "_"}


def product_schedules(
    product: Product, targets: Targets, registered: Sequence[JobSchedule] = ()
) -> list[dg.ScheduleDefinition]:
    """Define the product's main schedule, the configured and the registered ones.

    A registered schedule with the same job, cron and timezone as the main one is not repeated.

    Raises:
        ScheduleError: A cron or timezone is not valid, or the product does not have a registered job.
        ConfigError: A configured schedule has the name of a registered one.
    """
    check_registered(product, registered)
    own = declared_schedule(product)
    if own and replace(own, enabled=True) in registered:
        own = replace(own, enabled=True)
    # Separate jobs for other kinds of partitions have the same schedule as the main job.
    owned = (
        [replace(own, job_name=name) for name in {product.identifier: 0, **partitions_by_job(product)}] if own else []
    )
    plain: dict[tuple[str, str, str], dg.ScheduleDefinition] = {}
    for schedule in [*owned, *registered]:
        key = (schedule.job_name, schedule.cron, schedule.timezone)
        if key not in plain:
            name = f"{schedule.job_name}_schedule" if schedule in owned else _distinct_name(schedule)
            plain[key] = _schedule_definition(
                schedule, name, _Request(None, {}, _partitions(product, targets, schedule))
            )
    configured = _configured_schedules(product, targets, {schedule.name for schedule in plain.values()})
    return [*plain.values(), *configured]


def check_registered(product: Product, registered: Sequence[JobSchedule]) -> None:
    """Check that the product has the jobs of all registered schedules.

    Raises:
        ScheduleError: A job is unknown. The message lists the product's jobs.
    """
    known_jobs = job_names(product)
    for schedule in registered:
        if schedule.job_name not in known_jobs:
            known = ", ".join(map(repr, known_jobs)) or "none (it declares no transforms)"
            raise ScheduleError(f"no job {schedule.job_name!r} in product {product.name!r}; its jobs: {known}.")


def main_schedule_name(product: Product) -> str:
    """Return the name of the product's main schedule."""
    return f"{product.identifier}_schedule"


def run_request(keys: Sequence[dg.AssetKey], tags: Mapping[str, str]) -> dg.RunRequest:
    """Request a run of some of a job's assets. Without a selection of checks, Dagster also runs the assets' checks."""
    return dg.RunRequest(asset_selection=keys, tags=tags)


def _configured_schedules(product: Product, targets: Targets, taken: set[str]) -> list[dg.ScheduleDefinition]:
    definitions = []
    for row, entry in enumerate(product.config.schedules):
        where = config_path("schedules", row)
        if entry.name in taken:
            what = f"{entry.name!r} is the name of a schedule registered with schedule_job"
            raise ConfigError(product.origin, [Problem(f"{where}.name", what, "Give it another name.")])
        timezone = entry.timezone or product.config.timezone
        schedule = checked_schedule(entry.job or product.identifier, entry.cron, timezone, enabled=entry.enabled)
        keys = targets.keys(entry, where) if entry.selects else None
        tags = {**build_tags(entry.build), **option_tags(entry), **entry.tags}
        request = _Request(keys, tags, _partitions(product, targets, schedule, keys))
        definitions.append(_schedule_definition(schedule, entry.name, request))
    return definitions


def _partitions(
    product: Product, targets: Targets, schedule: JobSchedule, keys: Sequence[dg.AssetKey] | None = None
) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions that a schedule builds: of the selected assets, or of its job; None without any."""
    if not product.config.partitions:
        return None
    found = targets.partitions_of(targets.job_keys(product, schedule.job_name) if keys is None else keys)
    return found[0] if found else None


@dataclass(frozen=True)
class _Request:
    """The run request of a tick.

    Attributes:
        keys: Assets of the job to build; None for all of them.
        tags: Tags of the run.
        partitions: Partitions of the assets, if any.
    """

    keys: Sequence[dg.AssetKey] | None
    tags: Mapping[str, str]
    partitions: dg.PartitionsDefinition[str] | None


def _schedule_definition(schedule: JobSchedule, name: str, request: _Request) -> dg.ScheduleDefinition:
    """Define a schedule of a whole job, or of some of its assets or partitions; selections need no separate job."""
    define = partial(
        dg.ScheduleDefinition,
        name=name,
        job_name=schedule.job_name,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED,
    )
    if request.keys is None and request.partitions is None:
        return define(tags=request.tags)

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if request.partitions is not None:
            tick = context.scheduled_execution_time.astimezone(pytz.timezone(schedule.timezone))
            previous = croniter(schedule.cron, tick).get_prev(datetime)
            partitions = requested_partitions(request.partitions, previous, tick)
            yield from partition_requests(tick.isoformat(), partitions, request.keys, dict(request.tags))
        else:
            yield run_request(request.keys or [], request.tags)

    return define(execution_fn=requests)


def _distinct_name(schedule: JobSchedule) -> str:
    cron = "".join(_WORDS.get(letter, letter) for letter in schedule.cron)
    timezone = schedule.timezone.replace("+", "plus").replace("-", "to")
    return re.sub(r"\W", "_", f"{schedule.job_name}_at_{cron}_{timezone}")

"""Schedules: the product's own (floe.yaml, else the default), the configured ones, those of ``schedule_job``."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.selection import EVERYTHING
from floe_orchestrator_dagster.automation.cron import JobSchedule, checked_schedule, declared_schedule
from floe_orchestrator_dagster.automation.jobs import job_names
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, Problem, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.automation.targets import Targets
    from floe_orchestrator_dagster.product import Product

_WORDS = {"*": "any", "-": "to", ",": "and", "/": "every", "@": "at", "#": "nth", "?": "some", "+": "plus", " ": "_"}


def product_schedules(
    product: Product, targets: Targets, registered: Sequence[JobSchedule] = ()
) -> list[dg.ScheduleDefinition]:
    """Define the product's own schedule, then the configured and the registered ones.

    Of the own and the registered ones the same job, cron and timezone appear once.

    Raises:
        ScheduleError: A cron or timezone that cannot work, or a registered job that the product does not have.
        ConfigError: A selection that cannot be used, or a name that a registered schedule has.
    """
    check_registered(product, registered)
    own = declared_schedule(product)
    if own and replace(own, enabled=True) in registered:
        own = replace(own, enabled=True)
    plain: dict[tuple[str, str, str], dg.ScheduleDefinition] = {}
    for schedule in [*([own] if own else []), *registered]:
        key = (schedule.job_name, schedule.cron, schedule.timezone)
        if key not in plain:
            name = own_schedule_name(product) if schedule is own else _distinct_name(schedule)
            plain[key] = _schedule_definition(schedule, name, {}, None)
    configured = _configured_schedules(product, targets, {schedule.name for schedule in plain.values()})
    return [*plain.values(), *configured]


def check_registered(product: Product, registered: Sequence[JobSchedule]) -> None:
    """Refuse registered schedules of jobs that the product does not have.

    Raises:
        ScheduleError: The message names the product's jobs.
    """
    known_jobs = job_names(product)
    for schedule in registered:
        if schedule.job_name not in known_jobs:
            known = ", ".join(map(repr, known_jobs)) or "none (it declares no transforms)"
            raise ScheduleError(f"no job {schedule.job_name!r} in product {product.name!r}; its jobs: {known}.")


def own_schedule_name(product: Product) -> str:
    """Name the product's own schedule."""
    return f"{product.identifier}_schedule"


def run_request(keys: Sequence[dg.AssetKey], tags: Mapping[str, str]) -> dg.RunRequest:
    """Ask for a run over some of a job's assets; as no checks are named, those of exactly these assets run too."""
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
        selects = entry.select or entry.exclude
        keys = targets.keys(entry.select or EVERYTHING, entry.exclude, where) if selects else None
        definitions.append(_schedule_definition(schedule, entry.name, entry.tags, keys))
    return definitions


def _schedule_definition(
    schedule: JobSchedule, name: str, tags: Mapping[str, str], keys: Sequence[dg.AssetKey] | None
) -> dg.ScheduleDefinition:
    """Define a schedule of a whole job, or of some of its assets: one job serves all selections."""
    define = partial(
        dg.ScheduleDefinition,
        name=name,
        job_name=schedule.job_name,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED,
    )
    if keys is None:
        return define(tags=tags)

    def request(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return run_request(keys, tags)

    return define(execution_fn=request)


def _distinct_name(schedule: JobSchedule) -> str:
    cron = "".join(_WORDS.get(letter, letter) for letter in schedule.cron)
    timezone = schedule.timezone.replace("+", "plus").replace("-", "to")
    return re.sub(r"\W", "_", f"{schedule.job_name}_at_{cron}_{timezone}")

"""Schedules: the product's own (floe.yaml, else the configured default) and those registered with ``schedule_job``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.cron import JobSchedule, declared_schedule
from floe_orchestrator_dagster.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.product import Product

_WORDS = {"*": "any", "-": "to", ",": "and", "/": "every", "@": "at", "#": "nth", "?": "some", "+": "plus", " ": "_"}


def product_schedules(product: Product, registered: Sequence[JobSchedule] = ()) -> list[dg.ScheduleDefinition]:
    """Define the product's own schedule, then the registered ones; the same job, cron and timezone appear once.

    Raises:
        ScheduleError: A cron or timezone that cannot work, or a registered job that the product does not have.
    """
    known_jobs = [product.identifier] if product.models else []
    for schedule in registered:
        if schedule.job_name not in known_jobs:
            known = ", ".join(map(repr, known_jobs)) or "none (it declares no transforms)"
            raise ScheduleError(f"no job {schedule.job_name!r} in product {product.name!r}; its jobs: {known}.")
    own = declared_schedule(product)
    if own and replace(own, enabled=True) in registered:
        own = replace(own, enabled=True)
    definitions: dict[tuple[str, str, str], dg.ScheduleDefinition] = {}
    for schedule in [*([own] if own else []), *registered]:
        key = (schedule.job_name, schedule.cron, schedule.timezone)
        if key not in definitions:
            name = f"{product.identifier}_schedule" if schedule is own else _distinct_name(schedule)
            definitions[key] = _schedule_definition(schedule, name)
    return list(definitions.values())


def _distinct_name(schedule: JobSchedule) -> str:
    cron = "".join(_WORDS.get(letter, letter) for letter in schedule.cron)
    timezone = schedule.timezone.replace("+", "plus").replace("-", "to")
    return re.sub(r"\W", "_", f"{schedule.job_name}_at_{cron}_{timezone}")


def _schedule_definition(schedule: JobSchedule, name: str) -> dg.ScheduleDefinition:
    status = dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=name,
        job_name=schedule.job_name,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=status,
    )

"""Warnings about hourly crons that Dagster before 1.12.21 evaluates in UTC instead of the cron's timezone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import dagster as dg
import pytz
from croniter import croniter
from packaging.version import Version

from floe_orchestrator_dagster.automation.cron import check_cron, declared_schedule
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from floe_orchestrator_dagster.automation.cron import JobSchedule
    from floe_orchestrator_dagster.product import Product

FIXED_IN_DAGSTER = "1.12.21"
"""The first Dagster version that evaluates these minutes in the cron's timezone."""
_HOUR = 60
_ANY = ["*"]
_MONTHS = 12
_SHOWN = 6


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
    what = f"{cron!r} ticks at {_listed(shifted)} of the hour in {zone}{part}, not at {_listed(minutes)}"
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
    return sorted({int(offset.total_seconds() // 60) % _HOUR for offset in offsets})


def _shifted(minutes: Iterable[int], offset: int) -> list[int]:
    return sorted((minute + offset) % _HOUR for minute in minutes)


def _listed(minutes: Sequence[int]) -> str:
    shown = ", ".join(map(str, minutes[:_SHOWN])) + (", …" if len(minutes) > _SHOWN else "")
    return f"minute {shown}" if len(minutes) == 1 else f"minutes {shown}"

"""When a job runs: a cron that can fire and a timezone that exists, as croniter and pytz say. Dagster is not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone as fixed_timezone
from typing import TYPE_CHECKING

import pytz
from croniter import CroniterError, croniter

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ScheduleError

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product import Product

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday
_CRON_FIELDS = len(_RANGES)
_MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_CRON_EXAMPLES = "'0 6 * * *' (daily at 6:00), '0 8 * * MON-FRI' (weekdays at 8:00), '*/15 * * * *', '@hourly'"
_TIMEZONE_EXAMPLES = "'UTC', 'Europe/Berlin', 'America/New_York'"
_LONGEST_SHOWN = 60
_LONGEST_CRON = 256
_RANDOM = re.compile(r"(^|,)[RH]([(/,]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class JobSchedule:
    """A job, when it runs, and whether the schedule starts switched on.

    Attributes:
        job_name: Name of the Dagster job.
        cron: Five fields or a macro such as ``@daily``.
        timezone: IANA name.
        enabled: Whether the schedule is running once the code location is loaded.
    """

    job_name: str
    cron: str
    timezone: str
    enabled: bool = True


def checked_schedule(job_name: str, cron: str, timezone: str, *, enabled: bool = True) -> JobSchedule:
    """Make a schedule of values that were checked.

    Raises:
        ScheduleError: A cron or timezone that cannot work.
    """
    return JobSchedule(job_name, check_cron(cron), check_timezone(timezone), enabled)


def declared_schedule(product: Product) -> JobSchedule | None:
    """Read the product's own schedule: floe.yaml's, else the configured default; None without either.

    Raises:
        ScheduleError: A cron or timezone that cannot work; the message says where it was declared.
    """
    declared, config = product.spec.schedule, product.config
    if not product.models:
        return None
    if declared is not None and declared.cron:
        where = f"floe.yaml of {product.name!r}, schedule"
        cron, timezone, enabled = declared.cron, declared.timezone, declared.enabled
    elif config.default_schedule:
        where = f"{product.origin}, {config_path('default_schedule')}"
        cron, timezone, enabled = config.default_schedule, config.timezone, True
    else:
        return None
    try:
        return checked_schedule(product.identifier, cron, timezone, enabled=enabled)
    except ScheduleError as error:
        raise ScheduleError(f"{where}: {error}") from None


def check_cron(cron: str) -> str:
    """Return ``cron``, its fields one blank apart, when it is a schedule that can fire and that Dagster ticks.

    A step beyond its field (``*/60`` minutes) is written as what it means, the field's first value: Dagster warns of
    such steps.

    Raises:
        ScheduleError: Not five fields or a macro, a value out of range, or a date that never comes.
    """
    fields = cron.split() if isinstance(cron, str) and len(cron) <= _LONGEST_CRON else []
    text = " ".join(fields)
    if text.lower() in _MACROS:
        return text.lower()
    if not text.isprintable() or len(fields) != _CRON_FIELDS:
        raise ScheduleError(
            f"cron {_shown(cron)} needs five fields (minute hour day month weekday), such as {_CRON_EXAMPLES}."
        )
    # Of a day and a weekday, cron takes either; Dagster's ticks need a day that comes by itself.
    foreign = "Dagster has no R, H or W" if _has_foreign_letters(fields) else ""
    reason = foreign or _never(text) or _never(" ".join([*fields[:4], "*"]))
    if reason:
        raise ScheduleError(f"cron {_shown(cron)} cannot fire: {reason}. Use one such as {_CRON_EXAMPLES}.")
    return " ".join(_within_range(field, *limits) for field, limits in zip(fields, _RANGES, strict=True))


def _within_range(field: str, first: int, last: int) -> str:
    steps = {part: int(part[2:]) for part in field.split(",") if part.startswith("*/") and part[2:].isdecimal()}
    return ",".join(str(first) if steps.get(part, 0) > last else part for part in field.split(","))


def _has_foreign_letters(fields: list[str]) -> bool:
    return "W" in fields[2].upper() or any(_RANDOM.search(field) for field in fields)


def _never(cron: str) -> str:
    """Say why a cron has no next date; empty when it has one."""
    try:
        croniter(cron, datetime.now(tz=fixed_timezone.utc)).get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        return str(error).rstrip(".")
    return ""


def check_timezone(name: str) -> str:
    """Return ``name`` when it is an IANA timezone.

    Raises:
        ScheduleError: It is not.
    """
    if isinstance(name, str) and name in pytz.all_timezones_set:
        return name
    raise ScheduleError(f"timezone {_shown(name)} is not an IANA timezone such as {_TIMEZONE_EXAMPLES}.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"

"""Checks of crons and timezones, by croniter and pytz."""

from __future__ import annotations

import re
from datetime import datetime
from datetime import timezone as fixed_timezone
from typing import Annotated

import pytz
from croniter import CroniterError, croniter
from pydantic import AfterValidator, Field

from floe_orchestrator_dagster.config.cron_fields import FIELD_COUNT, unambiguous
from floe_orchestrator_dagster.errors import ScheduleError

_MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_CRON_EXAMPLES = "'0 6 * * *' (daily at 6:00), '0 8 * * MON-FRI' (weekdays at 8:00), '*/15 * * * *', '@hourly'"
_TIMEZONE_EXAMPLES = "'UTC', 'Europe/Berlin', 'America/New_York'"
_LONGEST_SHOWN = 60
_LONGEST_CRON = 256
_RANDOM = re.compile(r"(^|,)[RH]([(/,]|$)", re.IGNORECASE)


def check_cron(cron: str) -> str:
    """Check that a cron can fire, and return it with single spaces between its fields.

    Parts that versions of croniter and Dagster read differently are rewritten: a range of one value (``6-6``) as the
    value, a range over the end of its field (``22-2``) as two ranges, a step that is larger than its field
    (``*/60`` minutes) as the first value.

    Raises:
        ScheduleError: The cron is not five fields or a macro, a value is out of range, or its date never occurs.
    """
    fields = cron.split() if isinstance(cron, str) and len(cron) <= _LONGEST_CRON else []
    text = " ".join(fields)
    if text.lower() in _MACROS:
        return text.lower()
    if not text.isprintable() or len(fields) != FIELD_COUNT:
        raise ScheduleError(
            f"cron {_shown(cron)} needs five fields (minute hour day month weekday), such as {_CRON_EXAMPLES}."
        )
    meant = unambiguous(fields)
    # A cron with a day and a weekday ticks on both. Dagster refuses a day that no month has, even beside a weekday.
    foreign = "Dagster has no R, H or W" if _has_foreign_letters(fields) else ""
    reason = foreign or _never(" ".join(meant)) or _never(" ".join([*meant[:4], "*"]))
    if reason:
        raise ScheduleError(f"cron {_shown(cron)} cannot fire: {reason}. Use one such as {_CRON_EXAMPLES}.")
    return " ".join(meant)


def _has_foreign_letters(fields: list[str]) -> bool:
    return "W" in fields[2].upper() or any(_RANDOM.search(field) for field in fields)


def _never(cron: str) -> str:
    """Return the reason why a cron has no next date; empty when it has one."""
    try:
        croniter(cron, datetime.now(tz=fixed_timezone.utc)).get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        return str(error).rstrip(".")
    return ""


def check_timezone(name: str) -> str:
    """Return ``name`` after a check that it is an IANA timezone.

    Raises:
        ScheduleError: It is not an IANA timezone.
    """
    if isinstance(name, str) and name in pytz.all_timezones_set:
        return name
    raise ScheduleError(f"timezone {_shown(name)} is not an IANA timezone such as {_TIMEZONE_EXAMPLES}.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _possible_cron(cron: str) -> str:
    check_cron(cron)
    return cron


# Types of checked values. Fields keep them as written in the file; code that ticks calls `check_cron` again.
Cron = Annotated[str, Field(min_length=1), AfterValidator(_possible_cron)]
Timezone = Annotated[str, AfterValidator(check_timezone)]

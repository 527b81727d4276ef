"""Checks of crons and timezones, by croniter and pytz.

croniter reads a range of one value (``6-6``, ``MON-MON``) as the whole field. Most versions do the same with a start at
a field's maximum (``59/15``). Versions differ on ranges that pass the end of a field (``22-2``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from datetime import timezone as fixed_timezone
from typing import TYPE_CHECKING, Annotated

import pytz
from croniter import CroniterError, croniter
from pydantic import AfterValidator, Field

from floe_orchestrator_dagster.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RANGE = re.compile(r"(?P<first>\w+)-(?P<last>\w+)(?:/(?P<step>\d+))?(?P<nth>#\d)?", re.ASCII)
_START = re.compile(r"(?P<first>\w+|\*)/(?P<step>\d+)", re.ASCII)
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


# Types of checked values. Fields keep them as written in the file; code that computes ticks calls `check_cron` again.
Cron = Annotated[str, Field(min_length=1), AfterValidator(_possible_cron)]
Timezone = Annotated[str, AfterValidator(check_timezone)]


@dataclass(frozen=True)
class _Field:
    """Values of a cron field; ``highest`` is 7 for weekdays, where both 0 and 7 are Sunday."""

    lowest: int
    highest: int
    size: int
    names: Mapping[str, int] = field(default_factory=dict)

    def value(self, text: str) -> int | None:
        """Read a number or a name; None when it is neither or out of range."""
        value = int(text) if text.isdecimal() else self.names.get(text.lower())
        return value if value is not None and self.lowest <= value <= self.highest else None

    @property
    def end(self) -> int:
        """The last value without another spelling: 6 for weekdays, where 7 is the same as 0."""
        return self.lowest + self.size - 1


_FIELDS = (
    _Field(0, 59, 60),
    _Field(0, 23, 24),
    _Field(1, 31, 31, {"l": 31}),
    _Field(1, 12, 12, {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}),
    _Field(0, 7, 7, {name: number for number, name in enumerate(_WEEKDAY_NAMES)}),
)
FIELD_COUNT = len(_FIELDS)


def unambiguous(fields: Sequence[str]) -> list[str]:
    """Rewrite the five fields of a cron without ranges of one value, ranges over the end, and steps beyond their range.

    Text that is not a cron is unchanged. If a range contains a number that the field does not allow, only this number
    is kept. croniter rejects both.
    """
    return [
        ",".join(_unambiguous_part(part, kind) for part in text.split(","))
        for text, kind in zip(fields, _FIELDS, strict=True)
    ]


def _unambiguous_part(part: str, kind: _Field) -> str:
    spanned = _RANGE.fullmatch(part)
    if spanned is not None:
        return _range(spanned, kind)
    started = _START.fullmatch(part)
    return part if started is None else _start(part, started["first"], int(started["step"]), kind)


def _range(spanned: re.Match[str], kind: _Field) -> str:
    outside = [text for text in (spanned["first"], spanned["last"]) if text.isdecimal() and kind.value(text) is None]
    if outside:  # without the rest of the range: croniter reads the days 5-0 as 5 to 31
        return outside[0]
    first, last, step = kind.value(spanned["first"]), kind.value(spanned["last"]), int(spanned["step"] or 1)
    if first is None or last is None or step == 0 or spanned["first"].lower() == "l":
        return spanned[0]
    if spanned["nth"]:
        return _nth_weekdays(spanned, first, last, kind)
    if first < last:  # Dagster warns about a step beyond its range
        return spanned["first"] if 1 < step > last - first else spanned[0]
    return spanned["first"] if first % kind.size == last % kind.size else _over_the_end(first, last, step, kind)


def _over_the_end(first: int, last: int, step: int, kind: _Field) -> str:
    if first > kind.end:  # Sunday, written as 7
        return _written(kind.lowest, last, step)
    resumed = first + step * ((kind.end - first) // step + 1) - kind.size
    parts = [_written(first, kind.end, step), *([_written(resumed, last, step)] if resumed <= last else [])]
    return ",".join(parts)


def _nth_weekdays(spanned: re.Match[str], first: int, last: int, kind: _Field) -> str:
    """List the n-th weekdays of a range one by one, because cron supports such ranges only with names."""
    if first < last or not spanned["first"].isalpha():
        return spanned[0]
    days = [first] if first == last else [day % kind.size for day in range(first, last + kind.size + 1)]
    return ",".join(f"{day}{spanned['nth']}" for day in days)


def _start(part: str, first_text: str, step: int, kind: _Field) -> str:
    """Replace a start whose step leads beyond the field with the single value that it selects."""
    if first_text == "*":
        # croniter and Dagster read it correctly when the step does not lead beyond the field's highest value.
        return str(kind.lowest) if step > kind.highest else part
    first = kind.value(first_text)
    return first_text if first is not None and step > 0 and first <= kind.end < first + step else part


def _written(first: int, last: int, step: int) -> str:
    if first + step > last:
        return str(first)
    return f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"

"""Waiting times of models for new data: dbt's ``build_after``, and ``lag_tolerance`` of dbt State.

- https://docs.getdbt.com/reference/resource-configs/freshness
- https://docs.getdbt.com/reference/resource-configs/lag-tolerance
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

WAITS = "its inputs have new data, but its build_after or lag_tolerance has not passed since it was built"
NOT_ALL_CHANGED = "not all of its parents have new data since it was built"
_UNITS = {
    **dict.fromkeys(("s", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Waiting:
    """How long a model may wait although its inputs have new data.

    Attributes:
        seconds: Minimum time between two builds.
        needs_all: Whether all its parents must have new data.
    """

    seconds: float = 0.0
    needs_all: bool = False


NO_WAITING = Waiting()


def waiting_time(config: Mapping[str, Any]) -> Waiting:
    """Read the waiting time of a model from its configuration. ``state`` takes precedence over ``freshness``.

    A value that cannot be read is ignored.
    """
    state = _mapping(config.get("state"))
    after = _mapping(_mapping(config.get("freshness")).get("build_after"))
    tolerance = state.get("lag_tolerance")
    seconds = _period(after) if tolerance is None else _duration(tolerance)
    needs = state.get("require_fresh_data_from") or after.get("updates_on")
    return Waiting(seconds, needs_all=str(needs).lower() == "all")


def _duration(value: object) -> float:
    if isinstance(value, dict):  # dbt v2 has parsed it
        return _period(value)
    found = _DURATION.fullmatch(str(value))
    return float(found[1]) * _UNITS.get(found[2].lower(), 0.0) if found else 0.0


def _period(after: Mapping[str, Any]) -> float:
    count, period = after.get("count"), _UNITS.get(str(after.get("period")), 0.0)
    return count * period if isinstance(count, int | float) and count > 0 else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

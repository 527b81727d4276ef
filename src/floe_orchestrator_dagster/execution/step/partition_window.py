"""The partition of a run → arguments of dbt.

Microbatch models get their event-time window, all others dbt variables
(https://docs.getdbt.com/docs/build/incremental-microbatch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timezone
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import DbtSetupError

if TYPE_CHECKING:
    from datetime import datetime

    import dagster as dg

    from floe_orchestrator_dagster.config.models import PartitionsConfig

_EVENT_TIME = "%Y-%m-%d %H:%M:%S"
_VARIABLE_FORMATS = {"hourly": _EVENT_TIME}
_DATE = "%Y-%m-%d"


@dataclass(frozen=True)
class Window:
    """A run's partition, or range of them, as dbt receives it.

    Attributes:
        variables: dbt variables.
        arguments: Further arguments of dbt.
        period: Start and end of a partition in time.
    """

    variables: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    period: tuple[datetime, datetime] | None = None


def partition_window(context: dg.AssetExecutionContext, rule: PartitionsConfig | None) -> Window:
    """Pass dbt the run's partition, or range of them; nothing where nothing partitioned is built.

    Variables are in the partitions' timezone; dbt reads event time in UTC.

    Raises:
        DbtSetupError: Partitioned assets are to be built and the run has no partition.
    """
    if rule is None or not context.selected_asset_keys:
        return Window()
    if not (context.has_partition_key or context.has_partition_key_range):
        names = ", ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
        raise DbtSetupError(
            f"{names}: follow {rule.type} partitions, and this run has none, so dbt would build a window of its own. "
            "Launch it for a partition (`--partition`), or as a backfill."
        )
    if rule.type == "static":
        return Window({rule.vars.key: context.partition_key})
    window = context.partition_time_window
    form = _VARIABLE_FORMATS.get(rule.type, _DATE)
    variables = {rule.vars.start: window.start.strftime(form), rule.vars.end: window.end.strftime(form)}
    event_time = ("--event-time-start", _utc(window.start), "--event-time-end", _utc(window.end))
    return Window(variables, event_time, (window.start, window.end))


def _utc(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).strftime(_EVENT_TIME)

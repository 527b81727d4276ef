"""dbt's arguments for the partition of a run.

Microbatch models get an event-time window (https://docs.getdbt.com/docs/build/incremental-microbatch). Other models get
dbt variables.
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
    """A run's partition, or its range of partitions, for dbt.

    Attributes:
        variables: dbt variables.
        arguments: Other arguments of dbt.
        period: Start and end of a time partition; None for other partitions.
    """

    variables: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    period: tuple[datetime, datetime] | None = None


def partition_window(context: dg.AssetExecutionContext, rule: PartitionsConfig | None) -> Window:
    """Return the run's partition, or its range of partitions; an empty window if no partitioned asset is selected.

    Variables are in the partitions' timezone, and event times in UTC, as dbt reads them.

    Raises:
        DbtSetupError: Partitioned assets are selected, and the run has no partition.
    """
    if rule is None or not context.selected_asset_keys:
        return Window()
    if not (context.has_partition_key or context.has_partition_key_range):
        names = ", ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
        raise DbtSetupError(
            f"{names}: the assets have {rule.type} partitions, and this run has none. "
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

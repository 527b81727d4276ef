"""dbt's arguments for a window of time: the partition of a run, and the sample of a run.

For a partition, microbatch models get an event-time window
(https://docs.getdbt.com/docs/build/incremental-microbatch), and other models get dbt variables.

With a sample, dbt reads only the rows of the window from models, seeds, snapshots and sources that have an
``event_time`` (https://docs.getdbt.com/docs/build/sample-flag).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from typing import TYPE_CHECKING, Any

import orjson
import yaml
from packaging.version import Version

from floe_orchestrator_dagster.errors import DbtSetupError

if TYPE_CHECKING:
    import dagster as dg

    from floe_orchestrator_dagster.config.models import PartitionsConfig
    from floe_orchestrator_dagster.product.engines import DbtEngine


_EVENT_TIME = "%Y-%m-%d %H:%M:%S"
_VARIABLE_FORMATS = {"hourly": _EVENT_TIME}
_DATE = "%Y-%m-%d"
_FIRST_WITH_SAMPLES = (1, 10)
_LOOKBACK = re.compile(r"(?P<number>[0-9]{1,6})\s+(?P<unit>hour|day|month|year)s?", re.IGNORECASE)
_BOUNDS = ("start", "end")
_UTC_SUFFIX = re.compile(r"[Zz]$")  # read by Python from 3.11 on
_FORMS = (
    'Write a number of hours, days, months or years, such as "3 days", or {"start": "2025-01-01", "end": "2025-02-01"}'
)


@dataclass(frozen=True)
class Window:
    """A run's partition, or its range of partitions, for dbt.

    Attributes:
        variables: dbt variables.
        arguments: Other arguments of dbt.
        period: Start and end of a time partition; None for other partitions.
        keys: Keys of the partitions.
    """

    variables: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    period: tuple[datetime, datetime] | None = None
    keys: tuple[str, ...] = ()


NO_WINDOW = Window()


def partition_window(context: dg.AssetExecutionContext, rule: PartitionsConfig | None) -> Window:
    """Return the run's partition, or its range of partitions; an empty window for assets without partitions.

    Variables are in the partitions' timezone, and event times in UTC, as dbt reads them.

    Raises:
        DbtSetupError: Partitioned assets are selected, and the run has no partition.
    """
    if rule is None:
        return Window()
    if not context.selected_asset_keys and not _has_partitioned_checks(context):  # Dagster reads the whole table
        return Window()
    if not (context.has_partition_key or context.has_partition_key_range):
        if not context.selected_asset_keys:
            return Window()
        names = ", ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
        raise DbtSetupError(
            f"{names}: the assets have {rule.type} partitions, and this run has none. "
            "Launch it for a partition (`--partition`), or as a backfill."
        )
    if rule.type == "static":
        return Window({rule.vars.key: context.partition_key}, keys=(context.partition_key,))
    window = context.partition_time_window
    form = _VARIABLE_FORMATS.get(rule.type, _DATE)
    variables = {rule.vars.start: window.start.strftime(form), rule.vars.end: window.end.strftime(form)}
    event_time = ("--event-time-start", _utc(window.start), "--event-time-end", _utc(window.end))
    return Window(variables, event_time, (window.start, window.end), tuple(context.partition_keys))


def _has_partitioned_checks(context: dg.AssetExecutionContext) -> bool:
    """Return whether a selected check has partitions. Without one, Dagster has no window for a run's partition."""
    selected, specs = context.selected_asset_check_keys, context.assets_def.check_specs
    return any(spec.key in selected and getattr(spec, "partitions_def", None) is not None for spec in specs)


def _utc(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).strftime(_EVENT_TIME)


class UnusableSampleError(ValueError):
    """A sample that is not valid. Callers report it as an error of this package.

    Attributes:
        what: The fault.
        fix: The correction.
    """

    def __init__(self, what: str, fix: str) -> None:
        """Create the error."""
        super().__init__(f"{what}. {fix}.")
        self.what, self.fix = what, fix


def sample_arguments(sample: str | None, engine: DbtEngine, *, has_event_times: bool) -> list[str]:
    """Return dbt's argument for a sample; empty without one.

    Args:
        sample: A number of hours, days, months or years before now, or a mapping with ``start`` and ``end`` as YAML.
        engine: The dbt that runs.
        has_event_times: Whether the run's partition already limits the event times.

    Raises:
        DbtSetupError: The sample is not valid, the engine has no samples, or the run has a time partition.
    """
    if sample is None:
        return []
    try:
        window = sample_window(sample, engine)
    except UnusableSampleError as error:
        raise DbtSetupError(f"run configuration, sample: {error}") from None
    if has_event_times:
        what = "dbt would build the sample instead of the run's partition"
        fix = "Leave it out, or launch the run for assets without time partitions"
        raise DbtSetupError(f"run configuration, sample: {what}. {fix}.")
    return ["--sample", window]


def sample_window(sample: str, engine: DbtEngine | None) -> str:
    """Return a sample as both engines read it.

    Args:
        sample: As for :func:`sample_arguments`.
        engine: The dbt that runs; None if it is unknown.

    Raises:
        UnusableSampleError: The sample is not valid, or the engine has no samples.
    """
    window = _lookback(sample) or _period(sample)
    if engine is not None and engine.kind == "core" and Version(engine.version).release < _FIRST_WITH_SAMPLES:
        raise UnusableSampleError(f"{engine} has no samples", "Leave it out, or install dbt-core 1.10 or newer")
    return window


def _lookback(sample: str) -> str | None:
    """Return a number of units as both engines read it; None if the sample has another form."""
    found = _LOOKBACK.fullmatch(sample.strip())
    if found is None:
        return None
    number = int(found["number"])
    if not number:
        raise UnusableSampleError(f"{sample!r} is an empty window", _FORMS)
    return f"{number} {found['unit'].lower()}s"


def _period(sample: str) -> str:
    try:
        bounds = yaml.safe_load(sample)
    except (yaml.YAMLError, ValueError, RecursionError):  # dates that do not exist; lists that are too deep
        bounds = None
    if not isinstance(bounds, dict):
        raise UnusableSampleError(f"{sample!r} is not a time window", _FORMS)
    if set(bounds) != set(_BOUNDS):
        raise UnusableSampleError(f"{sample!r} must have the keys start and end, and no others", _FORMS)
    start, end = (_instant(name, bounds[name]) for name in _BOUNDS)
    if start >= end:
        raise UnusableSampleError(f"start {bounds['start']} is not before end {bounds['end']}", "Correct one of them")
    return orjson.dumps({"start": str(start), "end": str(end)}).decode()


def _instant(name: str, value: object) -> datetime:
    """Return a date or time in UTC, without the timezone, which dbt-core ignores."""
    try:
        found = datetime.fromisoformat(_UTC_SUFFIX.sub("+00:00", value)) if isinstance(value, str) else value
        if isinstance(found, datetime):
            return found.astimezone(timezone.utc).replace(tzinfo=None) if found.tzinfo else found
        if isinstance(found, date):
            return datetime.combine(found, time())
    except (ValueError, OverflowError):
        pass
    raise UnusableSampleError(
        f"{name} {value!r} is not a date or time", 'Write it as "2025-01-31" or "2025-01-31 12:00:00"'
    )

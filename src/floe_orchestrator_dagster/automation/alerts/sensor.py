"""The sensor that sends messages about a product's runs.

Its cursor has the open incidents and the messages that are not delivered, so that nothing is lost while a channel is
down or quiet. A message is sent twice only if the process is killed between the delivery and the end of the tick.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.automation.alerts.delivery import INSTALL, gets, is_quiet, send
from floe_orchestrator_dagster.automation.alerts.incidents import Incident, Message, after_run
from floe_orchestrator_dagster.automation.alerts.run_outcome import AlertedProduct, run_outcome
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import AlertError, ConfigError, Problem
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG, tag_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.config.models import AlertConfig
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 30
# Dagster limits a tick to 60 s. A service that does not answer can take the time limit of Apprise, 4 s.
_TICK_SECONDS = 30.0
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# The daemon's clock and those of runs can differ, and a run is stored a moment after its end.
_OVERLAP_SECONDS = 120.0
_MOST_PENDING = 1_000
_RETRIED_TAG = "dagster/will_retry"


@dataclass(frozen=True)
class _State:
    """The cursor.

    Attributes:
        first: Time of the first tick, in seconds since 1970. Runs that ended before it lead to no messages.
        until: Runs that ended before it have been read, in seconds since 1970.
        read: Ids of the runs that ended shortly before ``until`` and have been read, with their ends.
        incidents: What is broken, by subject.
        pending: Channel and message of each delivery that has not succeeded.
    """

    first: float
    until: float
    read: Mapping[str, float] = field(default_factory=dict)
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    pending: Sequence[tuple[str, Message]] = ()

    @classmethod
    def load(cls, cursor: str | None) -> _State:
        """Read a cursor."""
        if not cursor:
            return cls(time.time(), time.time())
        content = json.loads(cursor)
        return cls(
            content["first"],
            content["until"],
            content["read"],
            {subject: Incident(**incident) for subject, incident in content["incidents"].items()},
            [(channel, Message(**message)) for channel, message in content["pending"]],
        )

    def dump(self) -> str:
        """Return the cursor."""
        content: dict[str, Any] = {
            "first": self.first,
            "until": self.until,
            "read": self.read,
            "incidents": {subject: asdict(incident) for subject, incident in self.incidents.items()},
            "pending": [(channel, asdict(message)) for channel, message in self.pending],
        }
        return json.dumps(content)


def alert_sensor(
    product: Product,
    keys: Mapping[str, dg.AssetKey],
    owners: Mapping[dg.AssetKey, Sequence[str]],
    default: Sequence[str],
) -> dg.SensorDefinition | None:
    """Define the sensor; None without configured channels. It starts running when the code location is loaded.

    Args:
        product: The product.
        keys: Asset key of each dbt node, by unique id.
        owners: Owners of the assets.
        default: Owners of everything else.

    Raises:
        ConfigError: Channels are configured, and Apprise is not installed.
    """
    if not product.config.alerts:
        return None
    if find_spec("apprise") is None:
        problem = Problem(config_path("alerts"), "needs the package apprise, which is not installed", INSTALL)
        raise ConfigError(product.origin, [problem])
    alerted = AlertedProduct(product.name, keys, owners, default)

    @dg.sensor(
        name=f"{product.identifier}_alerts",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends messages about broken assets, checks and jobs of {product.name}, and about their recovery.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        state = _State.load(context.cursor)
        state = _with_runs(context.instance, state, product, alerted)
        state, reason = _delivered(state, product)
        context.update_cursor(state.dump())
        return dg.SkipReason(reason)

    return sensor


def _with_runs(instance: dg.DagsterInstance, state: _State, product: Product, alerted: AlertedProduct) -> _State:
    """Add the runs that have ended since the last tick."""
    since = max(state.until - _OVERLAP_SECONDS, state.first)
    filters = dg.RunsFilter(statuses=_ENDED, updated_after=datetime.fromtimestamp(since, tz=timezone.utc))
    records = [record for record in instance.get_run_records(filters) if (record.end_time or 0.0) >= since]
    until, read = state.until, dict(state.read)
    incidents, pending = dict(state.incidents), list(state.pending)
    for record in sorted(records, key=lambda record: record.end_time or 0.0):
        run, end = record.dagster_run, record.end_time or 0.0
        if run.run_id in read:
            continue
        read[run.run_id], until = end, max(until, end)
        if run.tags.get(_RETRIED_TAG) == "true" or not _is_of(run, product, alerted):
            continue
        outcome = run_outcome(instance, run, _page(product, run.run_id), alerted)
        incidents, messages = after_run(product.name, incidents, outcome)
        pending += [
            (channel.name, message)
            for message in messages
            for channel in product.config.alerts
            if gets(channel, message)
        ]
    kept = {run_id: end for run_id, end in read.items() if end >= until - _OVERLAP_SECONDS}
    return _State(state.first, until, kept, incidents, pending[-_MOST_PENDING:])


def _is_of(run: dg.DagsterRun, product: Product, alerted: AlertedProduct) -> bool:
    if PRODUCT_TAG in run.tags:
        return run.tags[PRODUCT_TAG] == tag_value(product.name)
    return not (run.asset_selection or frozenset()).isdisjoint(alerted.owners)


def _page(product: Product, run_id: str) -> str:
    url = product.config.webserver_url
    return f"{url.rstrip('/')}/runs/{run_id}" if url else run_id


def _delivered(state: _State, product: Product) -> tuple[_State, str]:
    """Send the pending messages for some seconds; return the reason that the tick shows, too."""
    channels = {channel.name: channel for channel in product.config.alerts}
    now, end = datetime.now(tz=timezone.utc), time.monotonic() + _TICK_SECONDS
    left: list[tuple[str, Message]] = []
    down: dict[str, str] = {}
    sent = 0
    for name, message in state.pending:
        channel = channels.get(name)
        if channel is None:  # it is no longer configured
            continue
        quiet = is_quiet(channel.quiet_hours, product.config.timezone, now)
        if quiet or name in down or time.monotonic() > end or not _sent(channel, message, down):
            left.append((name, message))
        else:
            sent += 1
    parts = [f"{sent} messages sent, {len(left)} pending, {len(state.incidents)} incidents are open.", *down.values()]
    return replace(state, pending=left), " ".join(parts)


def _sent(channel: AlertConfig, message: Message, down: dict[str, str]) -> bool:
    try:
        send(channel, message)
    except AlertError as error:
        down[channel.name] = str(error)
        return False
    return True

"""The sensor that sends messages about a product's runs and its late data.

Its cursor has the open incidents and the messages that are not delivered, so that nothing is lost while a channel is
down or quiet. A message is sent twice only if the process is killed between the delivery and the end of the tick.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.automation.alerts.channel_plugin import is_installed
from floe_orchestrator_dagster.automation.alerts.delivery import INSTALL, gets, is_quiet, send
from floe_orchestrator_dagster.automation.alerts.incidents import Incident, Incidents, Message, after_run, as_one
from floe_orchestrator_dagster.automation.alerts.late_data import late_outcomes
from floe_orchestrator_dagster.automation.alerts.run_outcome import run_outcome
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.config.models import CORRECT_IT
from floe_orchestrator_dagster.errors import AlertError, ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.automation.alerts.run_outcome import AlertedProduct
    from floe_orchestrator_dagster.config.automation import AlertConfig
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 30
# Dagster limits a tick to 60 s. A service that does not answer can take some seconds after the end of sending.
_READING_SECONDS, _TICK_SECONDS = 20.0, 35.0
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Clocks of machines differ, and a run is stored a moment after its end.
_OVERLAP_SECONDS = 120.0
# Dagster adds the retry tag to a failed run a moment after the end of the run.
_SETTLING_SECONDS = 5.0
_MOST_SINGLE = 10
_MOST_REFUSALS = 3  # of one message, before later ones are tried without it


@dataclass(frozen=True)
class _State:
    """The cursor.

    Attributes:
        first: Time of the first tick, in seconds since 1970. Runs that ended before it lead to no messages.
        until: Time until which ended runs have been read, in seconds since 1970.
        read: Ids of the runs that ended shortly before ``until`` and have been read, with their ends.
        incidents: Open and recently closed incidents.
        pending: Channel and message of each delivery that has not succeeded.
    """

    first: float
    until: float
    read: Mapping[str, float] = field(default_factory=dict)
    incidents: Incidents = field(default_factory=Incidents)
    pending: Sequence[tuple[str, Message]] = ()

    @classmethod
    def load(cls, cursor: str | None) -> _State:
        """Read a cursor."""
        if not cursor:
            return cls(time.time(), time.time())
        content = json.loads(cursor)
        broken = {subject: Incident(**incident) for subject, incident in content["broken"].items()}
        return cls(
            content["first"],
            content["until"],
            content["read"],
            Incidents(broken, content["closed"]),
            [(channel, Message(**message)) for channel, message in content["pending"]],
        )

    def dump(self) -> str:
        """Return the cursor."""
        content: dict[str, Any] = {
            "first": self.first,
            "until": self.until,
            "read": self.read,
            "broken": {subject: asdict(incident) for subject, incident in self.incidents.broken.items()},
            "closed": self.incidents.closed,
            "pending": [(channel, asdict(message)) for channel, message in self.pending],
        }
        return json.dumps(content)


def alert_sensor(product: Product, alerted: AlertedProduct) -> dg.SensorDefinition | None:
    """Define the sensor; None without configured channels. It starts running when the code location is loaded.

    Args:
        product: The product.
        alerted: Its assets.

    Raises:
        ConfigError: Apprise, or the plugin of a channel, is not installed.
    """
    if not product.config.alerts:
        return None
    problems = list(_missing(product.config.alerts))
    if problems:
        raise ConfigError(product.origin, problems)

    @dg.sensor(
        name=f"{product.identifier}_alerts",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Sends messages about broken assets, checks and jobs and late data of {product.name}, and about "
        "their recovery.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        began = time.monotonic()
        state = _with_runs(context.instance, _State.load(context.cursor), product, alerted, began + _READING_SECONDS)
        state = _with_late_data(context.instance, state, product, alerted)
        state, reason = _delivered(state, product, began + _TICK_SECONDS)
        context.update_cursor(state.dump())
        return dg.SkipReason(reason)

    return sensor


def _missing(channels: Sequence[AlertConfig]) -> Iterator[Problem]:
    if any(channel.plugin is None for channel in channels) and find_spec("apprise") is None:
        yield Problem(config_path("alerts"), "needs the package apprise, which is not installed", INSTALL)
    for row, channel in enumerate(channels):
        if channel.plugin is not None and not is_installed(channel.plugin):
            what = f"no alert channel plugin {channel.plugin!r} is installed"
            fix = f"Install its package in the image of the code location, or use `variable`. {CORRECT_IT}"
            yield Problem(config_path("alerts", row, "plugin"), what, fix)


def _with_runs(
    instance: dg.DagsterInstance, state: _State, product: Product, alerted: AlertedProduct, end: float
) -> _State:
    """Add the runs that have ended since the last tick, the oldest first, until a deadline."""
    now, since = time.time(), max(state.until - _OVERLAP_SECONDS, state.first)
    filters = dg.RunsFilter(statuses=_ENDED, updated_after=datetime.fromtimestamp(since, tz=timezone.utc))
    records = [record for record in instance.get_run_records(filters) if _has_settled(record, since, now)]
    until, read, pending = state.until, dict(state.read), list(state.pending)
    assets, timely = ({key.to_user_string() for key in keys} for keys in (alerted.owners, alerted.timely))
    incidents = state.incidents.without_removed(assets, timely, now)
    for record in sorted(records, key=_end):
        run = record.dagster_run
        if run.run_id in read:
            continue
        if time.monotonic() > end:
            break
        read[run.run_id], until = _end(record), min(max(until, _end(record)), now)
        if not alerted.may_concern(run):
            continue
        outcome = run_outcome(instance, run, _page(product, run.run_id), alerted)
        incidents, messages = after_run(product.name, incidents, outcome)
        pending += _to_channels(product, messages)
    kept = {run_id: ended for run_id, ended in read.items() if ended >= until - _OVERLAP_SECONDS}
    return _State(state.first, until, kept, incidents, pending)


def _with_late_data(instance: dg.DagsterInstance, state: _State, product: Product, alerted: AlertedProduct) -> _State:
    """Add the assets that have become late, and those that are not late any more."""
    incidents, pending = state.incidents, list(state.pending)
    page = partial(_page, product)
    for outcome in late_outcomes(instance, alerted, state.incidents.broken, page, state.first):
        incidents, messages = after_run(product.name, incidents, outcome)
        pending += _to_channels(product, messages)
    return replace(state, incidents=incidents, pending=_collapsed(product.name, pending))


def _to_channels(product: Product, messages: Sequence[Message]) -> list[tuple[str, Message]]:
    """Return the messages for each channel."""
    return [(one.name, message) for message in messages for one in product.config.alerts if gets(one, message)]


def _end(record: dg.RunRecord) -> float:
    return record.end_time or 0.0


def _has_settled(record: dg.RunRecord, since: float, now: float) -> bool:
    is_failure = record.dagster_run.status is dg.DagsterRunStatus.FAILURE
    settles = _SETTLING_SECONDS if is_failure else 0.0
    return _end(record) >= since and not now - settles < _end(record) <= now


def _collapsed(product: str, pending: Sequence[tuple[str, Message]]) -> list[tuple[str, Message]]:
    """Return the pending messages, with those of a channel as one message if there are many."""
    by_channel: dict[str, list[Message]] = {}
    for name, message in pending:
        by_channel.setdefault(name, []).append(message)
    return [
        (name, message)
        for name, messages in by_channel.items()
        for message in ([as_one(product, messages)] if len(messages) > _MOST_SINGLE else messages)
    ]


def _page(product: Product, run_id: str) -> str:
    url = product.config.webserver_url
    return f"{url.rstrip('/')}/runs/{run_id}" if url else run_id


def _delivered(state: _State, product: Product, end: float) -> tuple[_State, str]:
    """Send the pending messages until a time; return the reason that the tick shows, too.

    Messages of a channel are sent in the order of their events. After a refused one, the channel gets no others in this
    tick, unless the message has been refused several times: then the later ones do not wait for it.
    """
    channels = {channel.name: channel for channel in product.config.alerts}
    now = datetime.now(tz=timezone.utc)
    left: list[tuple[str, Message]] = []
    down: set[str] = set()
    problems: dict[str, str] = {}
    sent = 0
    for name, message in state.pending:
        channel = channels.get(name)
        if channel is None:  # it is no longer configured
            continue
        quiet = is_quiet(channel.quiet_hours, product.config.timezone, now)
        if quiet or name in down or time.monotonic() > end:
            left.append((name, message))
            continue
        problem = _problem(channel, message, product)
        if problem is None:
            sent += 1
            continue
        problems[name] = problem
        left.append((name, replace(message, refusals=message.refusals + 1)))
        if message.refusals < _MOST_REFUSALS:
            down.add(name)
    counts = f"sent: {sent}, pending: {len(left)}, open incidents: {len(state.incidents.broken)}."
    return replace(state, pending=left), " ".join([counts, *problems.values()])


def _problem(channel: AlertConfig, message: Message, product: Product) -> str | None:
    """Send a message; return the reason if the channel did not accept it."""
    try:
        send(channel, message, product)
    except AlertError as error:
        return str(error)
    return None

"""Delivery of messages by an alert channel plugin of floe.

The interface is ``floe_core.plugins.alert_channel.AlertChannelPlugin``, with the entry point group
``floe.alert_channels``. Plugins receive floe's events about contract violations. Each message has its own instance of
the plugin: floe's registry has one for all channels, and configures only plugins with a schema.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from contextvars import copy_context
from datetime import datetime, timezone
from importlib.metadata import entry_points
from threading import Thread
from typing import TYPE_CHECKING, Any

from floe_core.plugin_types import PluginType
from pydantic import ValidationError

from floe_orchestrator_dagster.automation.alerts.incidents import LATE
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.redaction import MASK, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from floe_core.contracts.monitoring.violations import ContractViolationEvent
    from floe_core.plugins.alert_channel import AlertChannelPlugin

    from floe_orchestrator_dagster.automation.alerts.incidents import Message
    from floe_orchestrator_dagster.config.automation import AlertConfig
    from floe_orchestrator_dagster.product import Product

_SECONDS = 20.0
_LONGEST = 2_500  # characters; Slack refuses sections of more than 3,000
_AGAIN = "The sensor sends the message again at its next tick."
# Webhooks have their secret in the path.
_PATH = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/?#]+)[/?#]\S+", re.IGNORECASE)
# Threads that have not ended within the limit, by product and channel.
_late: dict[tuple[str, str], Thread] = {}


class _UnusableSettingsError(Exception):
    """Settings that a plugin does not accept. The message has no values."""


def is_installed(name: str) -> bool:
    """Return whether a plugin with this name is installed, without importing it."""
    return bool(entry_points(group=PluginType.ALERT_CHANNEL.entry_point_group, name=name))


def send_by_plugin(channel: AlertConfig, message: Message, product: Product) -> Problem | None:
    """Send a message as an event of floe; return the problem if the plugin did not deliver it within 20 seconds.

    The plugin runs in a thread, because nothing else ends the wait for code that blocks.
    """
    missing = sorted(name for name in channel.variables.values() if not os.environ.get(name))
    if missing:
        what = f"the environment variable {missing[0]} is not set"
        return Problem("", what, "Set it where the code server gets its environment.")
    found: list[Problem | None] = []
    key, late = (product.name, channel.name), f"the plugin {channel.plugin!r} did not answer within {_SECONDS:.0f} s"
    before = _late.get(key)
    if before is not None and before.is_alive():
        return Problem("", f"{late}, and still runs", f"Check its service. {_AGAIN}")
    thread = Thread(
        target=copy_context().run, args=(lambda: found.append(_sent(channel, message, product)),), daemon=True
    )
    thread.start()
    thread.join(_SECONDS)
    if not found:
        _late[key] = thread
        return Problem("", late, f"Check its service. {_AGAIN}")
    return found[0]


def _sent(channel: AlertConfig, message: Message, product: Product) -> Problem | None:
    name = channel.plugin or ""
    settings = {**channel.config, **{key: os.environ[variable] for key, variable in channel.variables.items()}}
    try:
        plugin = _plugin(name, settings)
        problems = plugin.validate_config()
        if problems:
            said = _PATH.sub(rf"\1/{MASK}", Redactor(_texts(settings)).redact("; ".join(problems)))
            return Problem("", f"the plugin {name!r} is not configured: {said}", f"Correct it. {_AGAIN}")
        delivered = asyncio.run(plugin.send_alert(_event(message, product)))
    except _UnusableSettingsError as error:
        return Problem("", f"the plugin {name!r} {error}", "Correct `config` and `variables` of the channel.")
    except BaseException as error:  # noqa: BLE001  # plugins are third-party code; the message can contain a secret
        return Problem("", f"the plugin {name!r} raised {type(error).__name__}", f"Check its configuration. {_AGAIN}")
    return None if delivered else Problem("", f"the plugin {name!r} did not deliver a message", _AGAIN)


def _plugin(name: str, settings: Mapping[str, Any]) -> AlertChannelPlugin:
    """Create the plugin: with a schema, it is configured; otherwise, its class takes the settings as arguments."""
    from floe_core.plugins.alert_channel import AlertChannelPlugin

    [*found] = entry_points(group=PluginType.ALERT_CHANNEL.entry_point_group, name=name)
    kind: type[AlertChannelPlugin] = found[0].load()
    if not issubclass(kind, AlertChannelPlugin):
        raise TypeError
    if kind.get_config_schema is AlertChannelPlugin.get_config_schema:
        accepted = inspect.signature(kind)
        try:
            accepted.bind(**settings)
        except TypeError:
            unknown = ", ".join(sorted(settings.keys() - accepted.parameters.keys()))
            names = ", ".join(accepted.parameters) or "none"
            what = f"has no setting {unknown}" if unknown else "needs further settings"
            raise _UnusableSettingsError(f"{what}; its settings are: {names}") from None
        return kind(**settings)
    plugin = kind()
    schema = plugin.get_config_schema()
    if schema is not None:
        try:
            plugin.configure(schema(**settings))
        except ValidationError as error:
            refused = sorted({".".join(map(str, one["loc"])) for one in error.errors()})
            raise _UnusableSettingsError(f"refuses its settings: {', '.join(refused)}") from None
    return plugin


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _event(message: Message, product: Product) -> ContractViolationEvent:
    """Convert a message to floe's event.

    A recovery has the severity ``info``, because floe has no event for it. The event's message has title and text,
    because floe's plugins show nothing of the metadata.
    """
    from floe_core.contracts.monitoring.violations import (
        ContractViolationEvent,
        ViolationSeverity,
        ViolationType,
    )

    kinds = {"check": ViolationType.QUALITY, "freshness": ViolationType.FRESHNESS, LATE: ViolationType.FRESHNESS}
    failed = ViolationSeverity.WARNING if message.is_warning else ViolationSeverity.ERROR
    details = {
        "title": message.title,
        "details": message.body,
        "run": message.run,
        "owners": ", ".join(message.owners),
    }
    text = f"{message.title}\n\n{message.body}"
    return ContractViolationEvent(
        contract_name=product.name,
        contract_version=product.artifacts.metadata.product_version,
        violation_type=kinds.get(message.kind, ViolationType.AVAILABILITY),
        severity=ViolationSeverity.INFO if message.is_recovery else failed,
        message=text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…",
        element=message.subject or None,
        timestamp=datetime.now(tz=timezone.utc),
        affected_consumers=list(message.skipped),
        check_duration_seconds=0.0,
        metadata={name: value for name, value in details.items() if value},
    )

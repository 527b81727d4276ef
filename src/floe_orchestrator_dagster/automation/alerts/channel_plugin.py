"""Delivery of messages by an alert channel plugin of floe.

The interface is ``floe_core.plugins.alert_channel.AlertChannelPlugin``, with the entry point group
``floe.alert_channels``. Plugins receive floe's events about contract violations.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from floe_core.plugin_types import PluginType

from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from floe_core.contracts.monitoring.violations import ContractViolationEvent
    from floe_core.plugins.alert_channel import AlertChannelPlugin

    from floe_orchestrator_dagster.automation.alerts.incidents import Message
    from floe_orchestrator_dagster.config.models import AlertConfig
    from floe_orchestrator_dagster.product import Product

_SECONDS = 20.0
_AGAIN = "The sensor sends the message again at its next tick."


def is_installed(name: str) -> bool:
    """Return whether a plugin with this name is installed, without importing it."""
    return bool(entry_points(group=PluginType.ALERT_CHANNEL.entry_point_group, name=name))


def send_by_plugin(channel: AlertConfig, message: Message, product: Product) -> Problem | None:
    """Send a message as an event of floe; return the problem if the plugin did not deliver it."""
    name = channel.plugin or ""
    try:
        plugin = _plugin(name, channel)
        problems = plugin.validate_config()
        if problems:
            return Problem("", f"the plugin {name!r} is not configured: {'; '.join(problems)}", f"Correct it. {_AGAIN}")
        event = _event(message, product)
        delivered = asyncio.run(asyncio.wait_for(plugin.send_alert(event), _SECONDS))
    except Exception as error:  # noqa: BLE001  # plugins are third-party code; the message can contain a secret
        return Problem("", f"the plugin {name!r} raised {type(error).__name__}", f"Check its configuration. {_AGAIN}")
    return None if delivered else Problem("", f"the plugin {name!r} did not deliver a message", _AGAIN)


def _plugin(name: str, channel: AlertConfig) -> AlertChannelPlugin:
    from floe_core.plugin_registry import get_registry
    from floe_core.plugins.alert_channel import AlertChannelPlugin

    registry = get_registry()
    registry.configure(PluginType.ALERT_CHANNEL, name, channel.config)
    plugin = registry.get(PluginType.ALERT_CHANNEL, name)
    if not isinstance(plugin, AlertChannelPlugin):
        raise TypeError
    return plugin


def _event(message: Message, product: Product) -> ContractViolationEvent:
    """Convert a message to floe's event. A recovery has the severity ``info``, because floe has no event for it."""
    from floe_core.contracts.monitoring.violations import (
        ContractViolationEvent,
        ViolationSeverity,
        ViolationType,
    )

    kinds = {"check": ViolationType.QUALITY, "freshness": ViolationType.FRESHNESS}
    failed = ViolationSeverity.WARNING if message.is_warning else ViolationSeverity.ERROR
    details = {"details": message.body, "run": message.run, "owners": ", ".join(message.owners)}
    return ContractViolationEvent(
        contract_name=product.name,
        contract_version=product.artifacts.metadata.product_version,
        violation_type=kinds.get(message.kind, ViolationType.AVAILABILITY),
        severity=ViolationSeverity.INFO if message.is_recovery else failed,
        message=message.title,
        element=message.subject or None,
        timestamp=datetime.now(tz=timezone.utc),
        affected_consumers=list(message.skipped),
        check_duration_seconds=0.0,
        metadata={name: value for name, value in details.items() if value},
    )

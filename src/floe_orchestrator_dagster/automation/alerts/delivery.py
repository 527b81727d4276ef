"""Delivery of messages to the configured channels, by Apprise."""

from __future__ import annotations

import os
from datetime import datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from floe_orchestrator_dagster.errors import AlertError, Problem

if TYPE_CHECKING:
    from floe_orchestrator_dagster.automation.alerts.incidents import Message
    from floe_orchestrator_dagster.config.models import AlertConfig, QuietHours

INSTALL = "Install it in the image of the code location: pip install 'floe-orchestrator-dagster[alerts]'"


def gets(channel: AlertConfig, message: Message) -> bool:
    """Return whether a message is for a channel."""
    if message.is_warning and channel.severity == "error":
        return False
    return not channel.owners or not {*channel.owners}.isdisjoint(message.owners)


def is_quiet(hours: QuietHours | None, timezone: str, now: datetime) -> bool:
    """Return whether a channel gets no messages now.

    Args:
        hours: The channel's quiet hours.
        timezone: The configuration's timezone.
        now: The time, with a timezone.
    """
    if hours is None:
        return False
    local = now.astimezone(ZoneInfo(hours.timezone or timezone)).time()
    start, end = time.fromisoformat(hours.start), time.fromisoformat(hours.end)
    return start <= local < end if start <= end else local >= start or local < end


def send(channel: AlertConfig, message: Message) -> None:
    """Send a message.

    Raises:
        AlertError: Apprise is not installed, the channel's variable is not set or has no URL, or the service did not
            accept the message.
    """
    try:
        import apprise
    except ImportError:
        raise AlertError(channel.name, [Problem("", "Apprise is not installed", INSTALL)]) from None
    url = os.environ.get(channel.variable, "")
    if not url:
        fix = "Set it where the code server gets its environment."
        raise AlertError(channel.name, [Problem("", f"the environment variable {channel.variable} is not set", fix)])
    service = apprise.Apprise()
    if not service.add(url):
        fix = "Write it as https://github.com/caronc/apprise/wiki describes for the service."
        raise AlertError(channel.name, [Problem("", f"{channel.variable} is not a URL that Apprise knows", fix)])
    kind = apprise.NotifyType.SUCCESS if message.is_recovery else apprise.NotifyType.FAILURE
    body_format = apprise.NotifyFormat.MARKDOWN
    if not service.notify(body=message.body, title=message.title, notify_type=kind, body_format=body_format):
        fix = f"Check the URL in {channel.variable} and the service. The message is sent again."
        raise AlertError(channel.name, [Problem("", "the service did not accept a message", fix)])

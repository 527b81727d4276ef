"""Delivery of messages to the configured channels, by Apprise or by an alert channel plugin of floe."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, time
from importlib.util import find_spec
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from floe_orchestrator_dagster.automation.alerts.channel_plugin import send_by_plugin
from floe_orchestrator_dagster.errors import AlertError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.automation.alerts.incidents import Message
    from floe_orchestrator_dagster.config.automation import AlertConfig, QuietHours
    from floe_orchestrator_dagster.product import Product

INSTALL = "Install it in the image of the code location: pip install 'floe-orchestrator-dagster[alerts]'"
"""The fix for a missing Apprise."""
# A logger's filter does not see the records of its children.
_TALKATIVE = ("apprise", "httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "urllib3.connectionpool")
# Whether this thread sends a message: sensors of other products and other code log at the same time.
_is_sending: ContextVar[bool] = ContextVar("is_sending", default=False)


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


def send(channel: AlertConfig, message: Message, product: Product) -> None:
    """Send a message, cut to the length that the service accepts.

    Raises:
        AlertError: The channel's plugin did not deliver the message. Or Apprise is not installed, the channel's
            variable is not set or has no URL or several, or the service did not accept the message.
    """
    variable = channel.variable
    with _silent():
        problem = send_by_plugin(channel, message, product) if variable is None else _sent_to_url(variable, message)
    if problem is not None:
        raise AlertError(channel.name, [problem])


def _sent_to_url(variable: str, message: Message) -> Problem | None:
    """Send a message to the URL in a variable; return the problem if the service did not accept it."""
    if find_spec("apprise") is None:
        return Problem("", "Apprise is not installed", INSTALL)
    url = os.environ.get(variable, "")
    if not url:
        fix = "Set it where the code server gets its environment."
        return Problem("", f"the environment variable {variable} is not set", fix)
    try:
        return _notified(variable, url, message)
    except Exception as error:  # noqa: BLE001 - services raise what they like; the message can contain the URL
        fix = f"Check the URL in {variable}. The sensor sends the message again at its next tick."
        return Problem("", f"sending raised {type(error).__name__}", fix)


def _notified(variable: str, url: str, message: Message) -> Problem | None:
    """Send a message by Apprise; return the problem if the service did not accept it."""
    import apprise

    service = apprise.Apprise()
    if not service.add(url) or len(service) != 1:
        fix = "Write it as https://github.com/caronc/apprise/wiki describes for the service, one URL per channel."
        return Problem("", f"{variable} is not one URL that Apprise knows", fix)
    for server in service:
        server.overflow_mode = apprise.OverflowMode.TRUNCATE
    kind = apprise.NotifyType.SUCCESS if message.is_recovery else apprise.NotifyType.FAILURE
    body_format = apprise.NotifyFormat.MARKDOWN
    if service.notify(body=message.body, title=message.title, notify_type=kind, body_format=body_format):
        return None
    fix = f"Check the URL in {variable} and the service. The sensor sends the message again at its next tick."
    return Problem("", "the service did not accept a message", fix)


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what the libraries of services log here, which contains URLs with their secrets."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_is_logged)  # without effect if it is there
    token = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(token)


def _is_logged(_record: logging.LogRecord) -> bool:
    return not _is_sending.get()

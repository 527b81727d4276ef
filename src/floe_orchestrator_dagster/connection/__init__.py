"""Is a Dagster webserver there, and is it well? One question, bounded in wall-clock time whatever the server does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.connection.address import DEFAULT_URL, URL_VARIABLE, find_address
from floe_orchestrator_dagster.connection.question import NoDagsterError, ask_webserver

if TYPE_CHECKING:
    from floe_core.plugins.orchestrator import ValidationResult

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.connection.webserver import Webserver

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "DEFAULT_URL", "URL_VARIABLE", "Connection", "check", "validate_connection"]

DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """What a connection check found; no part of it holds a secret.

    Attributes:
        url: Scheme, host and port that were asked.
        webserver: What answered; None when it was not Dagster.
        error: Why not, and what to do; empty when Dagster answered.
        warnings: What should be known although it answers.
    """

    url: str
    webserver: Webserver | None
    error: str
    warnings: tuple[str, ...]

    @property
    def message(self) -> str:
        """The result in one sentence."""
        return f"{self.webserver.summary} answers at {self.url}" if self.webserver else f"No Dagster at {self.url}"


def check(
    dagster_url: str | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS, config: DagsterConfig | None = None
) -> Connection:
    """Ask a webserver for its version, its code locations and its daemons.

    Args:
        dagster_url: Its address; when left out the configured one, ``DAGSTER_URL`` or http://localhost:3000.
        timeout: Seconds of wall clock after which the answer does not matter any more.
        config: The orchestrator's configuration.

    Raises:
        ValueError: A timeout that is no number of seconds above 0.
    """
    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout {timeout!r} is no number of seconds above 0, such as 10.")
    address = find_address(dagster_url, config)
    with telemetry.operation("connection.check", {"server.address": address.shown}) as traced:
        try:
            webserver = ask_webserver(address, timeout)
        except NoDagsterError as error:
            traced.failed(str(error))
            return Connection(address.shown, None, f"{address.shown}: {error}", address.warnings)
        traced.describe({"dagster.version": webserver.version})
        return Connection(address.shown, webserver, "", (*address.warnings, *webserver.warnings))


def validate_connection(
    dagster_url: str | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS, config: DagsterConfig | None = None
) -> ValidationResult:
    """Check the connection as floe-core wants to know it; arguments and errors as of :func:`check`."""
    from floe_core.plugins.orchestrator import ValidationResult

    found = check(dagster_url, timeout, config)
    return ValidationResult(
        success=found.webserver is not None,
        message=found.message,
        errors=[found.error] if found.error else [],
        warnings=list(found.warnings),
    )

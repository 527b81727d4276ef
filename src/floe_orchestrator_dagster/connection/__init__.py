"""Check of the connection to a Dagster webserver, with a wall-clock timeout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.connection.question import (
    DEFAULT_URL,
    URL_VARIABLE,
    NoDagsterError,
    find_address,
    query_webserver,
)

if TYPE_CHECKING:
    from floe_core.plugins.orchestrator import ValidationResult

    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.connection.webserver import Webserver

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "DEFAULT_URL", "URL_VARIABLE", "Connection", "check", "validate_connection"]

DEFAULT_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """The result of a connection check, without secrets.

    Attributes:
        url: Scheme, host and port of the request.
        webserver: The webserver; None when Dagster did not respond.
        error: The problem and its fix; empty when Dagster responded.
        warnings: Problems of a webserver that responded.
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
    """Query a webserver's version, code locations and daemons.

    Args:
        dagster_url: Its address. The default is the configured one, ``DAGSTER_URL`` or http://localhost:3000.
        timeout: Wall-clock seconds for the whole check.
        config: The orchestrator's configuration.

    Raises:
        ValueError: The timeout is not a positive number of seconds.
    """
    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout {timeout!r} is not a number of seconds above 0, such as 10.")
    address = find_address(dagster_url, config)
    with telemetry.operation("connection.check", {"server.address": address.shown}) as traced:
        try:
            webserver = query_webserver(address, timeout)
        except NoDagsterError as error:
            traced.failed(str(error))
            return Connection(address.shown, None, f"{address.shown}: {error}", address.warnings)
        traced.describe({"dagster.version": webserver.version})
        return Connection(address.shown, webserver, "", (*address.warnings, *webserver.warnings))


def validate_connection(
    dagster_url: str | None = None, timeout: float = DEFAULT_TIMEOUT_SECONDS, config: DagsterConfig | None = None
) -> ValidationResult:
    """Check the connection and return floe-core's result type; arguments and errors as for :func:`check`."""
    from floe_core.plugins.orchestrator import ValidationResult

    found = check(dagster_url, timeout, config)
    return ValidationResult(
        success=found.webserver is not None,
        message=found.message,
        errors=[found.error] if found.error else [],
        warnings=list(found.warnings),
    )

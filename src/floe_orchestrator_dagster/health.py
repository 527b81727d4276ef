"""Health check of this process's packages, product and webserver, for floe-core's plugin interface.

These three parts are checked at the same time. A part without a result within the timeout is degraded.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.connection import URL_VARIABLE, check
from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.product import ARTIFACTS_PATH_VARIABLE, artifacts_path_from_environment, load_product
from floe_orchestrator_dagster.product.adapters import require_adapter
from floe_orchestrator_dagster.product.computes import engine_choice
from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine
from floe_orchestrator_dagster.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from floe_core.plugin_metadata import HealthStatus

    from floe_orchestrator_dagster.config import DagsterConfig

# floe-core discards the whole result after 5 s.
DEFAULT_TIMEOUT_SECONDS = 4.5
_RUNTIME = ("dagster", "dagster-dbt")


@dataclass(frozen=True)
class Part:
    """State of the packages, the product or the webserver.

    Attributes:
        state: ``healthy``, ``degraded`` or ``unhealthy``.
        message: The finding, and the fix when the part is not healthy. Never contains a secret.
    """

    state: str
    message: str


def check_health(timeout: float, config: DagsterConfig | None) -> HealthStatus:
    """Check the packages, the product that ``FLOE_ARTIFACTS_PATH`` names, and the configured webserver, if any.

    Args:
        timeout: Wall-clock seconds for all checks.
        config: The orchestrator's configuration.

    Returns:
        The worst state of all parts; ``details`` has the state and message of each part.

    Raises:
        ValueError: The timeout is not a positive number of seconds.
    """
    from floe_core.plugin_metadata import HealthState, HealthStatus

    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout {timeout!r} is not a number of seconds above 0, such as 5.")
    parts = _checked(
        {
            "packages": lambda: _packages(config),
            "product": _product,
            "webserver": lambda: _webserver(config, timeout),
        },
        timeout,
    )
    states = [HealthState(part.state) for part in parts.values()]
    worst = max(states, key=[HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNHEALTHY].index)
    failing = [f"{name}: {part.message}" for name, part in parts.items() if part.state != HealthState.HEALTHY.value]
    details = {name: {"state": part.state, "message": part.message} for name, part in parts.items()}
    return HealthStatus(worst, "; ".join(failing) or "all parts are healthy", details)


def _checked(checks: dict[str, Callable[[], Part]], timeout: float) -> dict[str, Part]:
    """Run all checks at the same time; a check that exceeds the timeout is abandoned."""
    deadline = time.monotonic() + timeout
    found: dict[str, Part] = {}

    def run(name: str, check_part: Callable[[], Part]) -> None:
        try:
            found[name] = check_part()
        except FloeDagsterError as error:
            found[name] = Part("unhealthy", str(error))
        except Exception as error:  # noqa: BLE001  # any failure is unhealthy; its message may contain secrets
            found[name] = Part("unhealthy", f"the check failed with {type(error).__name__}")

    threads = [
        threading.Thread(target=run, args=item, name=f"{__name__}: {item[0]}", daemon=True) for item in checks.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Part("degraded", f"no result after {timeout:g} s")
    return {name: found.get(name, late) for name in checks}


def _packages(config: DagsterConfig | None) -> Part:
    try:
        packages = [f"{name} {version(name)}" for name in _RUNTIME]
    except PackageNotFoundError as error:
        return Part("unhealthy", f"{error.name} is not installed. pip install floe-orchestrator-dagster")
    engine = find_engine(engine_choice(config, "") if config else EngineChoice())
    return Part("healthy", ", ".join([*packages, str(engine)]))


def _product() -> Part:
    if not os.environ.get(ARTIFACTS_PATH_VARIABLE):
        return Part("healthy", f"not checked: {ARTIFACTS_PATH_VARIABLE} is not set")
    product = load_product(artifacts_path_from_environment())
    named = f"{product.name} {product.artifacts.metadata.product_version}"
    if product.dbt is None:
        return Part("degraded" if product.models else "healthy", f"{named} has no dbt project to run")
    for compute in product.dbt.profiles:
        connection = product.dbt.on(compute)
        require_adapter(connection.profile, connection.engine)
    unset = {variable.name for profile in product.dbt.profiles.values() for variable in profile.missing_variables}
    if unset:
        names = ", ".join(sorted(unset))
        return Part("degraded", f"{named} loads, but its dbt profile reads variables that are not set here: {names}")
    return Part("healthy", f"{named}, {counted(len(product.dbt.manifest.asset_nodes), 'dbt asset')}")


def _webserver(config: DagsterConfig | None, timeout: float) -> Part:
    if not (config and config.webserver_url) and not os.environ.get(URL_VARIABLE):
        return Part("healthy", f"not checked: neither webserver_url nor {URL_VARIABLE} is set")
    # A little less than the whole timeout, so that its own message is reported.
    found = check(timeout=timeout * 0.9, config=config)
    if found.webserver is None:
        return Part("degraded", found.error)
    return Part("degraded" if found.warnings else "healthy", " ".join([found.message, *found.warnings]))

"""How is the product of this process? What floe-core asks its plugins for, honestly and in time.

Each part is looked at on its own; one that is not done in time says so, and counts as degraded.
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
from floe_orchestrator_dagster.product.profiles import require_adapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from floe_core.plugin_metadata import HealthStatus

    from floe_orchestrator_dagster.config import DagsterConfig

# floe-core gives up after 5 s, and would then know nothing.
DEFAULT_TIMEOUT_SECONDS = 4.5
_RUNTIME = ("dagster", "dagster-dbt", "dbt-core")


@dataclass(frozen=True)
class Part:
    """How a part is.

    Attributes:
        state: ``healthy``, ``degraded`` or ``unhealthy``.
        said: What was found; for a part that is not healthy also what to do. Never a secret.
    """

    state: str
    said: str


def check_health(timeout: float, config: DagsterConfig | None) -> HealthStatus:
    """Look at the packages, at the product that ``FLOE_ARTIFACTS_PATH`` names, and at the webserver if one is named.

    Args:
        timeout: Seconds of wall clock for all of it.
        config: The orchestrator's configuration.

    Returns:
        The worst state of all parts; ``details`` says of each part how it is.

    Raises:
        ValueError: A timeout that is no number of seconds above 0.
    """
    from floe_core.plugin_metadata import HealthState, HealthStatus

    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout {timeout!r} is no number of seconds above 0, such as 5.")
    parts = _looked_at(
        {
            "packages": _packages,
            "product": _product,
            "webserver": lambda: _webserver(config, timeout),
        },
        timeout,
    )
    states = [HealthState(part.state) for part in parts.values()]
    worst = max(states, key=[HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNHEALTHY].index)
    unwell = [f"{name}: {part.said}" for name, part in parts.items() if part.state != HealthState.HEALTHY.value]
    details = {name: {"state": part.state, "message": part.said} for name, part in parts.items()}
    return HealthStatus(worst, "; ".join(unwell) or "all is well", details)


def _looked_at(questions: dict[str, Callable[[], Part]], timeout: float) -> dict[str, Part]:
    """Look at all parts at once; one that takes too long is left behind."""
    deadline = time.monotonic() + timeout
    found: dict[str, Part] = {}

    def look(name: str, question: Callable[[], Part]) -> None:
        try:
            found[name] = question()
        except FloeDagsterError as error:
            found[name] = Part("unhealthy", str(error))
        except Exception as error:  # noqa: BLE001  # a part that breaks is unhealthy; its text may hold anything
            found[name] = Part("unhealthy", f"cannot be looked at ({type(error).__name__})")

    threads = [
        threading.Thread(target=look, args=item, name=f"{__name__}: {item[0]}", daemon=True)
        for item in questions.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Part("degraded", f"not known after {timeout:g} s")
    return {name: found.get(name, late) for name in questions}


def _packages() -> Part:
    try:
        return Part("healthy", ", ".join(f"{name} {version(name)}" for name in _RUNTIME))
    except PackageNotFoundError as error:
        return Part("unhealthy", f"{error.name} is not installed. pip install floe-orchestrator-dagster")


def _product() -> Part:
    if not os.environ.get(ARTIFACTS_PATH_VARIABLE):
        return Part("healthy", f"none in this process: {ARTIFACTS_PATH_VARIABLE} is not set")
    product = load_product(artifacts_path_from_environment())
    named = f"{product.name} {product.artifacts.metadata.product_version}"
    if product.dbt is None:
        return Part("degraded" if product.models else "healthy", f"{named} has no dbt project to run")
    for profile in product.dbt.profiles.values():
        require_adapter(profile)
    unset = {variable.name for profile in product.dbt.profiles.values() for variable in profile.missing_variables}
    if unset:
        names = ", ".join(sorted(unset))
        return Part("degraded", f"{named} loads, but its dbt profile reads variables that are not set here: {names}")
    return Part("healthy", f"{named}, {len(product.dbt.manifest.asset_nodes)} dbt assets")


def _webserver(config: DagsterConfig | None, timeout: float) -> Part:
    if not (config and config.webserver_url) and not os.environ.get(URL_VARIABLE):
        return Part("healthy", f"none is named: neither webserver_url nor {URL_VARIABLE} is set")
    # A little less, so that what it says is heard.
    found = check(timeout=timeout * 0.9, config=config)
    if found.webserver is None:
        return Part("degraded", found.error)
    return Part("degraded" if found.warnings else "healthy", " ".join([found.message, *found.warnings]))

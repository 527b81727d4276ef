"""CPU and memory presets of orchestration workloads."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import PodResources
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from floe_core.plugins.orchestrator import ResourceSpec

_PRESETS = {
    "small": ("100m", "500m", "256Mi", "512Mi"),
    "medium": ("250m", "1000m", "512Mi", "1Gi"),
    "large": ("500m", "2000m", "1Gi", "2Gi"),
}
_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", 1)},
}


def resource_requirements(workload_size: str) -> ResourceSpec:
    """Return a new preset for ``small``, ``medium`` or ``large``.

    Raises:
        ValueError: The size is none of these.
    """
    from floe_core.plugins.orchestrator import ResourceSpec

    preset = _PRESETS.get(workload_size) if isinstance(workload_size, str) else None
    if preset is None:
        sizes = ", ".join(map(repr, _PRESETS))
        raise ValueError(f"workload size {workload_size!r} is not one of {sizes}.")
    cpu_request, cpu_limit, memory_request, memory_limit = preset
    return ResourceSpec(
        cpu_request=cpu_request, cpu_limit=cpu_limit, memory_request=memory_request, memory_limit=memory_limit
    )


def requested_resources(requested: PodResources) -> dict[str, dict[str, str]]:
    """Return Kubernetes requests and limits: the preset of ``size``, overridden by single values, if they are set."""
    preset = resource_requirements(requested.size) if requested.size else None
    values = {
        "requests": {
            "cpu": requested.cpu_request or (preset.cpu_request if preset else None),
            "memory": requested.memory_request or (preset.memory_request if preset else None),
        },
        "limits": {
            "cpu": requested.cpu_limit or (preset.cpu_limit if preset else None),
            "memory": requested.memory_limit or (preset.memory_limit if preset else None),
        },
    }
    named = {kind: {name: value for name, value in amounts.items() if value} for kind, amounts in values.items()}
    return {kind: amounts for kind, amounts in named.items() if amounts}


def service_resources(size: str, requested: PodResources | None, where: str, origin: str) -> dict[str, dict[str, str]]:
    """Return the resources of a service's pod: the preset of ``size``, overridden by the configuration.

    Args:
        size: ``small``, ``medium`` or ``large``; a size in ``requested`` takes precedence.
        requested: The configuration of the service.
        where: Its place in the configuration.
        origin: The file with the configuration.

    Raises:
        DeployError: A request exceeds its limit, which Kubernetes rejects.
    """
    own = requested or PodResources()
    resources = requested_resources(own if own.size else own.model_copy(update={"size": size}))
    for name, request in resources["requests"].items():
        limit = resources["limits"][name]
        if quantity(request) > quantity(limit):
            what = f"{name}_request {request} is more than {name}_limit {limit}"
            raise DeployError(origin, [Problem(where, what, "Raise the limit, or lower the request.")])
    return resources


def quantity(text: str) -> Decimal:
    """Parse a Kubernetes quantity such as ``500m``, ``2``, ``1.5Gi``."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]  # checked before
    return Decimal(number) * _UNITS[unit]

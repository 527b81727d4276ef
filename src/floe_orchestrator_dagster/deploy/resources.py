"""CPU and memory presets of orchestration workloads."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config.models import PodResources
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_core.plugins.orchestrator import ResourceSpec

_PRESETS = {
    "small": ("100m", "500m", "256Mi", "512Mi"),
    "medium": ("250m", "1000m", "512Mi", "1Gi"),
    "large": ("500m", "2000m", "1Gi", "2Gi"),
}
_KINDS = {"requests": "request", "limits": "limit"}
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


def requested_resources(requested: PodResources, base: PodResources | None = None) -> dict[str, dict[str, str]]:
    """Return Kubernetes requests and limits: the preset of ``size``, overridden by single values, if they are set.

    Args:
        requested: The configuration.
        base: Configuration whose values ``requested`` overrides, because Dagster merges both.
    """
    inherited = requested_resources(base) if base else {}
    preset = resource_requirements(requested.size) if requested.size else None
    found: dict[str, dict[str, str]] = {}
    for kind, suffix in _KINDS.items():
        for name in ("cpu", "memory"):
            field = f"{name}_{suffix}"
            value = getattr(requested, field) or getattr(preset, field, None) or inherited.get(kind, {}).get(name)
            if value:
                found.setdefault(kind, {})[name] = value
    return found


def excessive_requests(resources: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Describe each request that exceeds its limit, which Kubernetes rejects."""
    limits = resources.get("limits", {})
    return [
        f"{name}_request {request} is more than {name}_limit {limits[name]}"
        for name, request in resources.get("requests", {}).items()
        if name in limits and quantity(request) > quantity(limits[name])
    ]


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
    for what in excessive_requests(resources):
        raise DeployError(origin, [Problem(where, what, "Raise the limit, or lower the request.")])
    return resources


def quantity(text: str) -> Decimal:
    """Parse a Kubernetes quantity such as ``500m``, ``2``, ``1.5Gi``."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]  # checked before
    return Decimal(number) * _UNITS[unit]

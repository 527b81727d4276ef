"""CPU and memory presets of orchestration workloads (FR-011, FR-012)."""

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
    """Return a fresh preset for ``small``, ``medium`` or ``large``.

    Raises:
        ValueError: Any other size.
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


def asked_resources(asked: PodResources) -> dict[str, dict[str, str]]:
    """Return Kubernetes' requests and limits: the size's, with the single values on top; none for what is not named."""
    preset = resource_requirements(asked.size) if asked.size else None
    values = {
        "requests": {
            "cpu": asked.cpu_request or (preset.cpu_request if preset else None),
            "memory": asked.memory_request or (preset.memory_request if preset else None),
        },
        "limits": {
            "cpu": asked.cpu_limit or (preset.cpu_limit if preset else None),
            "memory": asked.memory_limit or (preset.memory_limit if preset else None),
        },
    }
    named = {kind: {name: value for name, value in amounts.items() if value} for kind, amounts in values.items()}
    return {kind: amounts for kind, amounts in named.items() if amounts}


def service_resources(size: str, asked: PodResources | None, where: str, origin: str) -> dict[str, dict[str, str]]:
    """Return what a service's pod asks for: the preset of ``size``, with what the configuration asks for on top.

    Args:
        size: ``small``, ``medium`` or ``large``; the configuration's own size wins.
        asked: The configuration of the service.
        where: Its path in the configuration.
        origin: The file that it comes from.

    Raises:
        DeployError: A request that is larger than the limit, which Kubernetes refuses.
    """
    own = asked or PodResources()
    resources = asked_resources(own if own.size else own.model_copy(update={"size": size}))
    for name, request in resources["requests"].items():
        limit = resources["limits"][name]
        if quantity(request) > quantity(limit):
            what = f"{name}_request {request} is more than {name}_limit {limit}"
            raise DeployError(origin, [Problem(where, what, "Raise the limit, or ask for less.")])
    return resources


def quantity(text: str) -> Decimal:
    """Read a Kubernetes quantity such as ``500m``, ``2``, ``1.5Gi``."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]  # checked before
    return Decimal(number) * _UNITS[unit]

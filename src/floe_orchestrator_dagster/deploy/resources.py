"""CPU and memory presets of orchestration workloads (FR-011, FR-012)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from floe_core.plugins.orchestrator import ResourceSpec

_PRESETS = {
    "small": ("100m", "500m", "256Mi", "512Mi"),
    "medium": ("250m", "1000m", "512Mi", "1Gi"),
    "large": ("500m", "2000m", "1Gi", "2Gi"),
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

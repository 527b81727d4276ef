"""Helm values of Dagster's services: the keys of the floe contract (FR-010)."""

from __future__ import annotations

from typing import Any

from floe_orchestrator_dagster.deploy.resources import resource_requirements

_SERVICES = {"dagster-webserver": "medium", "dagster-daemon": "small", "dagster-user-code": "medium"}


def helm_values() -> dict[str, Any]:
    """Return a fresh document with each service switched on, one replica, and resources by preset."""
    services = {
        name: {"enabled": True, "replicaCount": 1, "resources": _resources(size)} for name, size in _SERVICES.items()
    }
    return {**services, "postgresql": {"enabled": True}}


def _resources(size: str) -> dict[str, dict[str, str]]:
    preset = resource_requirements(size)
    return {
        "requests": {"cpu": preset.cpu_request, "memory": preset.memory_request},
        "limits": {"cpu": preset.cpu_limit, "memory": preset.memory_limit},
    }

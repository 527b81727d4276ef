"""Resource presets of the floe contract."""

from __future__ import annotations

from decimal import Decimal
from typing import cast

import pytest
from floe_core.plugins.orchestrator import ResourceSpec

from floe_orchestrator_dagster.config.models import PodResources
from floe_orchestrator_dagster.deploy.resources import quantity, resource_requirements, service_resources
from floe_orchestrator_dagster.errors import DeployError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("small", ResourceSpec("100m", "500m", "256Mi", "512Mi")),
        ("medium", ResourceSpec("250m", "1000m", "512Mi", "1Gi")),
        ("large", ResourceSpec("500m", "2000m", "1Gi", "2Gi")),
    ],
)
def test_size_gives_its_preset(size: str, expected: ResourceSpec) -> None:
    assert resource_requirements(size) == expected


@pytest.mark.parametrize("size", ["", "SMALL", "small ", "xlarge", "tiny", None, 1, ["small"], {}])
def test_any_other_size_is_refused_with_the_known_ones(size: object) -> None:
    with pytest.raises(ValueError, match="is not one of") as raised:
        resource_requirements(cast("str", size))

    assert str(raised.value) == f"workload size {size!r} is not one of 'small', 'medium', 'large'."


def test_preset_changed_by_a_caller_does_not_change_the_next_one() -> None:
    resource_requirements("small").cpu_limit = "64"

    assert resource_requirements("small").cpu_limit == "500m"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5", "1.5"),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("2T", "2e12"),
    ],
)
def test_quantity_is_read_as_kubernetes_does(text: str, expected: str) -> None:
    assert quantity(text) == Decimal(expected)


def test_single_values_take_precedence_over_sizes() -> None:
    asked = PodResources(size="small", memory_limit="4Gi")

    assert service_resources("large", asked, "x", "y") == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "4Gi"},
    }


def test_request_above_the_limit_is_refused_with_its_place() -> None:
    with pytest.raises(DeployError) as raised:
        service_resources("small", PodResources(memory_request="1Gi"), "deploy.daemon", "manifest.yaml")

    assert str(raised.value) == (
        "manifest.yaml: 1 problem\n"
        "  deploy.daemon: memory_request 1Gi is more than memory_limit 512Mi\n"
        "    fix: Raise the limit, or lower the request."
    )

"""Resource presets are the ones of the floe contract."""

from __future__ import annotations

from typing import cast

import pytest
from floe_core.plugins.orchestrator import ResourceSpec

from floe_orchestrator_dagster.deploy.resources import resource_requirements


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

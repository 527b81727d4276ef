"""Helm values with the floe contract's names of Dagster's services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.config import DagsterConfig, read_config
from floe_orchestrator_dagster.deploy.helm import helm_values, values_for
from floe_orchestrator_dagster.deploy.products import read_products
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from floe_orchestrator_dagster.errors import DeployError
from unit.deploy.deployed import IMAGE, POSTGRES, artifacts, products

if TYPE_CHECKING:
    from pathlib import Path


def test_document_has_the_services_of_the_floe_contract() -> None:
    assert {"dagster-webserver", "dagster-daemon", "dagster-user-code", "postgresql"} <= set(helm_values())


@pytest.mark.parametrize(
    ("service", "cpu", "memory"),
    [
        ("dagster-webserver", ("250m", "1000m"), ("512Mi", "1Gi")),
        ("dagster-daemon", ("100m", "500m"), ("256Mi", "512Mi")),
        ("dagster-user-code", ("250m", "1000m"), ("512Mi", "1Gi")),
    ],
)
def test_service_is_enabled_with_resources_by_preset(
    service: str, cpu: tuple[str, str], memory: tuple[str, str]
) -> None:
    values = helm_values()[service]

    assert values["enabled"] is True
    assert values["replicaCount"] == 1
    assert values["resources"] == {
        "requests": {"cpu": cpu[0], "memory": memory[0]},
        "limits": {"cpu": cpu[1], "memory": memory[1]},
    }


def test_postgresql_is_enabled() -> None:
    assert helm_values()["postgresql"]["enabled"] is True


def test_document_changed_by_a_caller_does_not_change_the_next_one() -> None:
    values = helm_values()
    before = json.dumps(values)

    for service in values.values():
        service.clear()

    assert json.dumps(helm_values()) == before


def test_document_is_the_same_in_yaml_and_json() -> None:
    values = helm_values()

    assert yaml.safe_load(yaml.safe_dump(values)) == values
    assert json.loads(json.dumps(values)) == values


def test_chart_keys_have_the_same_settings() -> None:
    values = helm_values()

    for ours, the_charts in (("dagster-webserver", "dagsterWebserver"), ("dagster-daemon", "dagsterDaemon")):
        assert values[the_charts]["resources"] == values[ours]["resources"]
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert location["resources"] == values["dagster-user-code"]["resources"]
    assert location["name"] == "floe-user-code"


@pytest.mark.parametrize(("size", "memory"), [("small", "512Mi"), ("medium", "512Mi"), ("large", "1Gi")])
def test_daemon_is_one_size_smaller(size: str, memory: str) -> None:
    values = helm_values(read_config({"deploy": {"size": size}}, "manifest.yaml"))

    assert values["dagsterDaemon"]["resources"]["limits"]["memory"] == memory
    assert values["dagster-daemon"]["resources"]["limits"]["memory"] == memory


def test_resources_and_image_of_the_configuration_are_used() -> None:
    config = {
        "deploy": {
            "image": f"registry.example.com/shop@sha256:{'0' * 64}",
            "webserver": {"memory_limit": "3Gi"},
            "daemon": {"size": "large"},
            "user_code": {"cpu_limit": "4"},
        }
    }
    plugin = DagsterOrchestratorPlugin()
    plugin.configure(DagsterConfig.model_validate(config))

    values = plugin.get_helm_values()

    assert values["dagsterWebserver"]["resources"]["limits"] == {"cpu": "1000m", "memory": "3Gi"}
    assert values["dagsterDaemon"]["resources"]["limits"] == {"cpu": "2000m", "memory": "2Gi"}
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert location["resources"]["limits"] == {"cpu": "4", "memory": "1Gi"}
    assert location["image"] == {
        "repository": "registry.example.com/shop",
        "digest": f"sha256:{'0' * 64}",
        "pullPolicy": "IfNotPresent",
    }


def test_contract_has_the_largest_of_several_code_servers(tmp_path: Path) -> None:
    paths = [
        artifacts(tmp_path, "shop-a"),
        artifacts(tmp_path, "shop-b", {"deploy": {"user_code": {"memory_limit": "8Gi"}}}),
    ]

    values = values_for("contract", DeploySettings(read_products(paths, [IMAGE])))

    assert list(values) == ["dagster-webserver", "dagster-daemon", "dagster-user-code", "postgresql"]
    assert values["dagster-user-code"]["resources"]["limits"]["memory"] == "8Gi"


@pytest.mark.parametrize(
    ("settings", "needed"),
    [({}, "Give --postgres-host."), ({"postgres": POSTGRES}, "Give --otlp-endpoint.")],
)
def test_floe_platform_needs_the_addresses_of_its_services(
    tmp_path: Path, settings: dict[str, Any], needed: str
) -> None:
    with pytest.raises(DeployError, match=needed):
        values_for("floe-platform", DeploySettings(products(tmp_path), **settings))

"""Helm values name Dagster's services as the floe contract does."""

from __future__ import annotations

import json

import pytest
import yaml

from floe_orchestrator_dagster.deploy.helm import helm_values


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
def test_service_is_on_with_resources_by_preset(service: str, cpu: tuple[str, str], memory: tuple[str, str]) -> None:
    values = helm_values()[service]

    assert values["enabled"] is True
    assert values["replicaCount"] == 1
    assert values["resources"] == {
        "requests": {"cpu": cpu[0], "memory": memory[0]},
        "limits": {"cpu": cpu[1], "memory": memory[1]},
    }


def test_postgresql_is_on() -> None:
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

"""Artifacts in a ConfigMap, byte for byte."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.deploy.products import read_products
from floe_orchestrator_dagster.deploy.volumes import artifacts_configmap, configmap_name
from floe_orchestrator_dagster.errors import DeployError
from helm_chart import validate
from unit.deploy.deployed import IMAGE, SNOWFLAKE, artifacts

if TYPE_CHECKING:
    from pathlib import Path


def test_configmap_holds_the_bytes_of_the_artifacts(tmp_path: Path) -> None:
    path = artifacts(tmp_path, dbt_profiles=SNOWFLAKE)
    (product,) = read_products([path], [IMAGE])

    configmap = artifacts_configmap(product)

    validate(configmap)
    assert base64.b64decode(configmap["binaryData"]["compiled_artifacts.json"]) == path.read_bytes()
    assert configmap["immutable"] is True
    assert (
        configmap["metadata"]["name"] == f"shop-orders-artifacts-{hashlib.sha256(path.read_bytes()).hexdigest()[:10]}"
    )


def test_changed_artifacts_are_another_configmap(tmp_path: Path) -> None:
    names = {
        configmap_name(read_products([artifacts(tmp_path, config=config)], [IMAGE])[0])
        for config in ({}, {"timezone": "Europe/Berlin"})
    }

    assert len(names) == 2


def test_artifacts_that_are_too_large_are_refused_with_their_size(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    path.write_bytes(path.read_bytes() + b" " * 2**20)
    (product,) = read_products([path], [IMAGE])

    with pytest.raises(DeployError) as raised:
        artifacts_configmap(product)

    assert f"{path.stat().st_size:,} bytes exceed the 1,048,576 that a ConfigMap can contain" in str(raised.value)

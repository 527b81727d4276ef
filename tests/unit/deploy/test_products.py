"""Attributes of products that their deployment depends on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.deploy.helm import values_for
from floe_orchestrator_dagster.deploy.names import ImageReference
from floe_orchestrator_dagster.deploy.products import by_product, read_products
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from floe_orchestrator_dagster.errors import ArtifactsError, DeployError
from unit.deploy.deployed import IMAGE, SNOWFLAKE, artifacts
from unit.samples import manifest, node, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path


def test_all_attributes_of_a_product_are_read(tmp_path: Path) -> None:
    path = artifacts(tmp_path, config={"executor": "k8s"}, dbt_profiles=SNOWFLAKE)

    (product,) = read_products([path], [IMAGE])

    assert (product.name, product.service, product.origin) == ("shop-orders", "shop-orders", str(path))
    assert product.config.executor == "k8s"
    assert product.image == ImageReference("registry.example.com/data/shops", "1.4.0", None)
    assert product.assets == 2
    assert product.on_duckdb is False
    assert product.variables == ("SNOWFLAKE_PASSWORD",)
    assert product.content_hash is not None
    assert len(product.content_hash) == 64


def test_variables_of_alerts_are_those_of_the_product(tmp_path: Path) -> None:
    alerts = [
        {"name": "team", "variable": "TEAM_ALERTS"},
        {"name": "night", "plugin": "slack", "variables": {"webhook_url": "SLACK_WEBHOOK"}},
    ]

    (product,) = read_products([artifacts(tmp_path, config={"alerts": alerts})], [IMAGE])

    assert product.variables == ("TEAM_ALERTS", "SLACK_WEBHOOK")


def test_only_a_change_of_the_content_changes_the_hash(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    content = json.loads(path.read_bytes())
    compiled_again = {**content, "metadata": {**content["metadata"], "compiled_at": "2027-01-01T00:00:00"}}
    new_version = {**content, "metadata": {**content["metadata"], "product_version": "9.0.0"}}

    hashes = []
    for text in (*(json.dumps(each) for each in (content, compiled_again, new_version)), json.dumps(content, indent=4)):
        path.write_text(text, encoding="utf-8")
        hashes.append(read_products([path], [IMAGE])[0].content_hash)

    assert hashes[0] == hashes[1] == hashes[3] != hashes[2]


def test_assets_are_counted_in_the_manifest_if_there_is_one(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    project = write_project(path.parent)
    unprepared = read_products([path], [IMAGE])[0].assets
    nodes = [node(name) for name in ("a", "b", "c")]
    write_json(project / "target" / "manifest.json", manifest(*nodes, node("s", "seed")))

    assert (unprepared, read_products([path], [IMAGE])[0].assets) == (2, 4)


def test_missing_artifacts_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError, match="the file does not exist"):
        read_products([tmp_path / "compiled_artifacts.json"], [IMAGE])


def test_image_of_the_configuration_is_the_default(tmp_path: Path) -> None:
    path = artifacts(tmp_path, config={"deploy": {"image": "shop:7"}})

    assert read_products([path], [])[0].image.tag == "7"
    assert read_products([path], [IMAGE])[0].image.tag == "1.4.0"


def test_invalid_image_of_the_configuration_is_reported_with_its_place(tmp_path: Path) -> None:
    path = artifacts(tmp_path, config={"deploy": {"image": "shop"}})

    with pytest.raises(DeployError) as raised:
        read_products([path], [])

    assert raised.value.origin == f"{path}: plugins.orchestrator.config.deploy.image"


def test_product_without_an_image_is_named(tmp_path: Path) -> None:
    path = artifacts(tmp_path)

    with pytest.raises(DeployError) as raised:
        read_products([path], [])

    assert str(raised.value) == (
        f"{path}: 1 problem\n  product 'shop-orders' has no image\n"
        "    fix: Give --image, or set plugins.orchestrator.config.deploy.image in manifest.yaml."
    )


def test_product_with_two_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="product 'shop-orders' is given 2 images: shop:1, shop:2"):
        read_products([artifacts(tmp_path)], ["shop:1", "shop-orders=shop:2"])


def test_values_go_to_all_products_or_to_the_named_one() -> None:
    assert by_product(["x", "b=y"], ["a", "b"], "--env-secret") == {"a": ["x"], "b": ["x", "y"]}


def test_value_of_an_unknown_product_is_refused() -> None:
    with pytest.raises(DeployError) as raised:
        by_product(["c=y"], ["a", "b"], "--env-secret")

    assert str(raised.value) == (
        "--env-secret: 1 problem\n  'c=y' names a product that is not among the artifacts\n    fix: Products: a, b."
    )


def test_products_with_different_webserver_settings_are_named(tmp_path: Path) -> None:
    paths = [
        artifacts(tmp_path, "shop-a", {"deploy": {"webserver": {"memory_limit": "4Gi"}}}),
        artifacts(tmp_path, "shop-b"),
    ]

    with pytest.raises(DeployError) as raised:
        values_for("community", DeploySettings(read_products(paths, [IMAGE])))

    (problem,) = raised.value.problems
    assert problem.where == "plugins.orchestrator.config.deploy.webserver"
    assert problem.what.startswith("the products have different values: shop-a has {")
    assert problem.fix == "Set the same in every product's manifest.yaml: they share this service."


def test_products_of_different_sizes_need_a_common_size(tmp_path: Path) -> None:
    paths = [artifacts(tmp_path, "shop-a", {"deploy": {"size": "large"}}), artifacts(tmp_path, "shop-b")]
    deployed = read_products(paths, [IMAGE])

    with pytest.raises(DeployError, match="Give --size, or set the same everywhere"):
        values_for("community", DeploySettings(deployed))
    values = values_for("community", DeploySettings(deployed, size="small"))
    assert {entry["resources"]["limits"]["memory"] for entry in values["dagster-user-deployments"]["deployments"]} == {
        "512Mi"
    }

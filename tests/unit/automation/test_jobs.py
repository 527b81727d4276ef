"""Jobs of a product: the main job and the configured ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError
from unit.dbt_shop import dbt_shop
from unit.samples import Json, model, product

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

PRODUCT_TAGS = {"floe/product": "shop-orders", "floe/domain": "sales"}
K8S = "dagster-k8s/config"


def job(definitions: dg.Definitions, name: str) -> dg.JobDefinition:
    return definitions.get_repository_def().get_job(name)


def asset_names(definition: dg.JobDefinition) -> set[str]:
    return {key.to_user_string() for key in definition.asset_layer.executable_asset_keys}


def check_names(definition: dg.JobDefinition) -> set[str]:
    return {key.name for key in definition.asset_layer.asset_graph.asset_check_keys}


def test_job_builds_the_selected_assets_with_their_checks(tmp_path: Path) -> None:
    jobs = [{"name": "daily", "select": "tag:daily", "exclude": "stg"}]

    definition = job(build_definitions(dbt_shop(tmp_path, {"jobs": jobs})), "daily")

    assert asset_names(definition) == {"mart"}
    assert check_names(definition) == {"unique_mart"}


def test_job_without_a_selection_builds_everything(tmp_path: Path) -> None:
    definitions = build_definitions(dbt_shop(tmp_path, {"jobs": [{"name": "nightly"}], "key_prefix": ["shop"]}))

    assert asset_names(job(definitions, "nightly")) == {"shop/raw", "shop/stg", "shop/mart", "shop/wide_v1"}
    assert asset_names(job(definitions, "nightly")) == asset_names(job(definitions, "shop_orders"))


def test_job_of_a_product_without_a_dbt_project_builds_everything() -> None:
    shop = product(model("a"), model("b", "a"), config={"jobs": [{"name": "nightly"}]})

    assert asset_names(job(build_definitions(shop), "nightly")) == {"a", "b"}


def test_job_over_a_part_needs_a_dbt_project() -> None:
    shop = product(model("a"), config={"jobs": [{"name": "whole"}, {"name": "daily", "select": "tag:daily"}]})

    with pytest.raises(ConfigError) as raised:
        build_definitions(shop)

    assert str(raised.value) == (
        "CompiledArtifacts: 1 problem\n"
        "  plugins.orchestrator.config.jobs[1].select: 'tag:daily' cannot be resolved: product 'shop-orders' "
        "has no dbt project here\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml, or leave the selection out."
    )


def test_selection_that_matches_nothing_is_refused_with_its_place(tmp_path: Path) -> None:
    shop = dbt_shop(tmp_path, {"jobs": [{"name": "daily", "select": "tag:dayly"}]})

    with pytest.raises(ConfigError, match=r"config\.jobs\[0\]\.select: 'tag:dayly' matches nothing\n"):
        build_definitions(shop)


def test_description_is_the_configured_one(tmp_path: Path) -> None:
    jobs = [{"name": "a", "select": "tag:daily"}, {"name": "b", "description": "Every night."}]

    definitions = build_definitions(dbt_shop(tmp_path, {"jobs": jobs}))

    assert job(definitions, "a").description == "Builds 2 assets of the data product shop-orders."
    assert job(definitions, "b").description == "Every night."


def test_runs_have_the_tags_of_the_product_and_of_the_job() -> None:
    shop = product(model("a"), config={"jobs": [{"name": "nightly", "tags": {"team": "finance", "floe/domain": "x"}}]})

    definitions = build_definitions(shop)

    assert job(definitions, "shop_orders").run_tags == PRODUCT_TAGS
    assert job(definitions, "nightly").run_tags == {**PRODUCT_TAGS, "team": "finance", "floe/domain": "x"}


@pytest.mark.parametrize(
    ("config", "resources"),
    [
        (
            {"size": "small"},
            {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        ),
        (
            {"size": "large", "cpu_limit": "4", "memory_request": "1.5Gi"},
            {"requests": {"cpu": "500m", "memory": "1.5Gi"}, "limits": {"cpu": "4", "memory": "2Gi"}},
        ),
        ({"memory_limit": "8Gi"}, {"limits": {"memory": "8Gi"}}),
    ],
)
def test_time_limit_and_resources_go_to_every_job(config: Json, resources: Json) -> None:
    shop = product(model("a"), config={"timeout_seconds": 3600, "run_resources": config, "jobs": [{"name": "nightly"}]})

    definitions = build_definitions(shop)

    for name in ("shop_orders", "nightly"):
        tags = job(definitions, name).run_tags
        assert tags["dagster/max_runtime"] == "3600"
        assert json.loads(tags[K8S]) == {"container_config": {"resources": resources}}


def test_nothing_configured_adds_no_tags() -> None:
    assert (
        job(build_definitions(product(model("a"), config={"run_resources": {}})), "shop_orders").run_tags
        == PRODUCT_TAGS
    )


def test_kubernetes_reads_the_resources_tag() -> None:
    k8s = pytest.importorskip("dagster_k8s.job")
    shop = product(model("a"), config={"run_resources": {"size": "small"}})

    config = k8s.get_user_defined_k8s_config(job(build_definitions(shop), "shop_orders").run_tags)

    assert config.container_config["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}

"""Loading of CompiledArtifacts of every contract version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest
from floe_core.schemas.compiled_artifacts import CompiledArtifacts
from floe_core.schemas.versions import COMPILED_ARTIFACTS_VERSION_HISTORY

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.product import load_product
from unit.samples import CONTRACTS

if TYPE_CHECKING:
    from pathlib import Path

_FILES = sorted(CONTRACTS.glob("*.json"))
_WITH_TRANSFORMS = [
    CONTRACTS / f"v{version}.json" for version in COMPILED_ARTIFACTS_VERSION_HISTORY if version != "0.1.0"
]
_WITHOUT_TRANSFORMS = [CONTRACTS / "v0.1.0.json", CONTRACTS / "v0.16.0-without-transforms.json"]


def _name(path: Path) -> str:
    return path.stem


def test_there_is_a_sample_of_every_contract_version() -> None:
    assert set(COMPILED_ARTIFACTS_VERSION_HISTORY) == {path.stem[1:].split("-")[0] for path in _FILES}


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_contract_is_read_as_floe_core_reads_it(path: Path) -> None:
    product = load_product(path)

    assert product.artifacts == CompiledArtifacts.from_json_file(path)
    assert product.origin == str(path)
    assert product.name == "shop-orders"
    assert product.identifier == "shop_orders"
    assert product.dbt is None


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_contract_read_twice_is_the_same_product(path: Path) -> None:
    assert load_product(path) == load_product(path)


@pytest.mark.parametrize("path", _WITH_TRANSFORMS, ids=_name)
def test_every_model_is_an_asset_and_every_dependency_an_edge(path: Path) -> None:
    graph = build_definitions(load_product(path)).resolve_asset_graph()

    assert {key: graph.get(key).parent_keys for key in graph.materializable_asset_keys} == {
        dg.AssetKey("stg_customers"): set(),
        dg.AssetKey("stg_orders"): set(),
        dg.AssetKey("fct_orders"): {dg.AssetKey("stg_customers"), dg.AssetKey("stg_orders")},
    }


@pytest.mark.parametrize("path", _WITH_TRANSFORMS, ids=_name)
def test_one_job_named_after_the_product_builds_all_assets(path: Path) -> None:
    definitions = build_definitions(load_product(path))

    [job] = [job for job in definitions.get_repository_def().get_all_jobs() if not job.name.startswith("__")]
    assert job.name == "shop_orders"
    assert job.asset_layer.executable_asset_keys == {
        dg.AssetKey(name) for name in ("stg_customers", "stg_orders", "fct_orders")
    }


@pytest.mark.parametrize("path", _WITH_TRANSFORMS, ids=_name)
def test_default_schedule_is_the_jobs_schedule(path: Path) -> None:
    [schedule] = build_definitions(load_product(path)).get_repository_def().schedule_defs

    assert (schedule.name, schedule.job_name) == ("shop_orders_schedule", "shop_orders")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "UTC")


@pytest.mark.parametrize("path", _WITHOUT_TRANSFORMS, ids=_name)
def test_contract_without_transforms_gives_empty_definitions(path: Path) -> None:
    repository = build_definitions(load_product(path)).get_repository_def()

    assert repository.asset_graph.get_all_asset_keys() == set()
    assert repository.get_all_jobs() == []
    assert repository.schedule_defs == []


def test_definitions_have_the_metadata_of_the_contract() -> None:
    definitions = build_definitions(load_product(CONTRACTS / "v0.16.0.json"))

    metadata = {key: value.value for key, value in definitions.metadata.items()}
    sections = ("floe/governance/", "floe/enforcement/")
    assert {key: value for key, value in metadata.items() if not key.startswith(sections)} == {
        "floe/product": "shop-orders",
        "floe/product_version": "1.0.0",
        "floe/product_id": "sales.shop_orders",
        "floe/source_hash": "sha256:5f0c1d",
        "floe/floe_version": "0.16.0",
        "floe/contract_version": "0.16.0",
        "floe/compiled_at": "2025-01-10T12:00:00+00:00",
    }


def test_the_products_job_shows_the_same_metadata() -> None:
    definitions = build_definitions(load_product(CONTRACTS / "v0.16.0.json"))

    job = definitions.resolve_job_def("shop_orders")

    assert {**job.metadata}.items() >= {**definitions.metadata}.items()
    assert job.metadata["floe/contract_version"].value == "0.16.0"


def test_ingested_tables_and_the_product_with_its_score_are_external_assets() -> None:
    graph = build_definitions(load_product(CONTRACTS / "v0.16.0.json")).resolve_asset_graph()

    external = graph.get_all_asset_keys() - graph.materializable_asset_keys
    assert {key.to_user_string() for key in external} == {"raw_sales/orders", "shop_orders"}
    assert graph.get(dg.AssetKey("shop_orders")).parent_keys == {dg.AssetKey("fct_orders")}

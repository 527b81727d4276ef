"""Definitions of products without a dbt project, with any names of models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from floe_core.plugins.orchestrator import TransformConfig

from floe_orchestrator_dagster import load_product_definitions
from floe_orchestrator_dagster.assets.transforms import transform_assets
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ArtifactsError, ConfigError, FloeDagsterError, ProjectError
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.product import load_product
from unit.samples import NAME, Json, contract, manifest, model, node, product, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Names that Dagster refuses for ops and jobs; dbt takes them for models.
_RESERVED = ["config", "context", "input", "output", "type", "str"]


def _keys(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}


def _assert_loadable(definitions: dg.Definitions, names: Iterable[str]) -> None:
    dg.Definitions.validate_loadable(definitions)
    assert _keys(definitions) == set(names)


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _RESERVED)
def test_model_may_have_a_name_that_is_reserved_in_dagster(name: str) -> None:
    _assert_loadable(build_definitions(product(model(name))), [name])


@pytest.mark.parametrize("name", _RESERVED)
def test_transform_may_have_a_name_that_is_reserved_in_dagster(name: str) -> None:
    [asset] = transform_assets([TransformConfig(name=name)])

    assert asset.key == dg.AssetKey(name)


@pytest.mark.parametrize("name", ["orders", "shop-orders"])
def test_model_may_have_the_name_of_its_product(name: str) -> None:
    models = [model(name.replace("-", "_"))]

    _assert_loadable(build_definitions(product(*models, name=name)), [name.replace("-", "_")])


@pytest.mark.parametrize("names", [["a-b", "a_b"], ["a.b", "a_b"], ["a__b", "a--b"]])
def test_models_whose_names_differ_in_punctuation_only_are_different_assets(names: list[str]) -> None:
    _assert_loadable(build_definitions(product(*map(model, names))), names)


@pytest.mark.parametrize("name", _RESERVED)
def test_product_whose_name_is_not_a_valid_job_name_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(FloeDagsterError, match=f"'{name}'"):
        dg.Definitions.validate_loadable(build_definitions(product(model("stg_orders"), name=name)))


@pytest.mark.parametrize("prefix", [["retail"], ["retail", "eu"], ["retail-eu"]])
def test_prefix_is_in_front_of_every_key_and_dependency(prefix: list[str]) -> None:
    definitions = build_definitions(product(model("a"), model("b", "a"), config={"key_prefix": prefix}))

    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey([*prefix, "b"])).parent_keys == {dg.AssetKey([*prefix, "a"])}


@pytest.mark.parametrize("prefix", [[""], ["retail eu"], ["retail/eu"], ["größe"]])
def test_prefix_that_dagster_rejects_is_refused_with_its_place(prefix: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.orchestrator\.config\.key_prefix"):
        product(model("stg_orders"), config={"key_prefix": prefix})


# --- attributes of assets -------------------------------------------------------------------------------------------


def test_dependency_named_twice_is_one_edge() -> None:
    graph = build_definitions(product(model("a"), model("b", "a", "a"))).resolve_asset_graph()

    assert graph.get(dg.AssetKey("b")).parent_keys == {dg.AssetKey("a")}


def test_asset_has_the_attributes_of_its_model_in_the_contract() -> None:
    shop = product(model("fct_orders", tags=["daily", "pii/email", "not a tag", "x" * 70], quality_tier="gold"))

    node = build_definitions(shop).resolve_asset_graph().get(dg.AssetKey("fct_orders"))

    assert node.group_name == "shop_orders"
    assert node.kinds == {"dbt", "duckdb", "gold"}
    assert {key: value for key, value in node.tags.items() if not key.startswith("dagster/")} == {
        "daily": "",
        "pii/email": "",
        "floe/product": "shop-orders",
        "floe/domain": "sales",
        "floe/compute": "duckdb",
        "floe/tier": "gold",
    }
    assert [key for key in node.metadata if key.startswith("floe/")] == []


@pytest.mark.parametrize(
    ("compiled", "label", "domain"),
    [
        ("default", "retail", "retail"),  # floe's compiler writes `default` for every product
        ("sales", "retail", "sales"),
        ("default", None, "default"),
    ],
)
def test_domain_is_the_label_of_floe_yaml_unless_the_contract_has_one(
    tmp_path: Path, compiled: str, label: str | None, domain: str
) -> None:
    write_project(tmp_path)
    labels = {"labels": {"domain": label}} if label else {}
    metadata = {"name": NAME, "version": "1.0.0", **labels}
    spec = {"apiVersion": "floe.dev/v1", "kind": "FloeSpec", "metadata": metadata, "transforms": [{"name": "a"}]}
    write_json(tmp_path / "floe.yaml", spec)
    write_json(tmp_path / "target" / "manifest.json", manifest(node("a")))
    identity = {**contract()["identity"], "domain": compiled}
    loaded = load_product(write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), identity=identity)))

    asset = build_definitions(loaded).resolve_asset_graph().get(dg.AssetKey("a"))

    assert asset.tags["floe/domain"] == domain
    assert plan_product(loaded, build_definitions(loaded)).domain == domain


def test_a_value_that_a_tag_cannot_contain_is_metadata_too() -> None:
    identity = {**contract()["identity"], "domain": "sales & returns"}

    node = build_definitions(product(model("a"), identity=identity)).resolve_asset_graph().get(dg.AssetKey("a"))

    assert node.tags["floe/domain"] == "sales_returns"
    assert node.metadata["floe/domain"] == "sales & returns"


@pytest.mark.parametrize(
    ("owner", "owners"),
    [
        ("orders@example.com", ["orders@example.com"]),
        ("orders", ["team:orders"]),
        ("team:orders", ["team:orders"]),
        ("orders-team", ["team:orders-team"]),
        ("Orders Team", ["team:Orders Team"]),
    ],
)
def test_owner_of_floe_yaml_owns_every_asset(tmp_path: Path, owner: str, owners: list[str]) -> None:
    _write(tmp_path, contract(model("stg_orders")), owner=owner)

    definitions = load_product_definitions("shop-orders", tmp_path)

    assert definitions.resolve_asset_graph().get(dg.AssetKey("stg_orders")).owners == owners


def test_labels_of_floe_yaml_are_in_the_definitions(tmp_path: Path) -> None:
    _write(tmp_path, contract(model("stg_orders")), labels={"cost-center": "4711"})

    assert load_product_definitions("shop-orders", tmp_path).metadata["floe/label/cost-center"].value == "4711"


def _write(directory: Path, content: Json, **metadata: object) -> Path:
    spec = {
        "apiVersion": "floe.dev/v1",
        "kind": "FloeSpec",
        "metadata": {"name": "shop-orders", "version": "1.0.0", **metadata},
        "transforms": [{"name": "stg_orders"}],
    }
    write_json(directory / "floe.yaml", spec)
    return write_json(directory / "compiled_artifacts.json", content)


@pytest.mark.parametrize("owner", ["team:"])
def test_owner_without_a_name_owns_nothing(tmp_path: Path, owner: str) -> None:
    _write(tmp_path, contract(model("stg_orders")), owner=owner)

    definitions = load_product_definitions("shop-orders", tmp_path)

    assert definitions.resolve_asset_graph().get(dg.AssetKey("stg_orders")).owners == []


def test_transform_without_a_name_is_refused() -> None:
    with pytest.raises(ArtifactsError, match=r"transforms\[1\]\.name: is empty"):
        transform_assets([TransformConfig(name="a"), TransformConfig(name="")])


def test_materializing_without_a_dbt_project_says_that_it_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))
    assets = load_product_definitions("shop-orders", tmp_path).assets

    with pytest.raises(ProjectError) as raised:
        dg.materialize(list(assets or []))  # type: ignore[arg-type]

    assert str(raised.value) == (
        f"{tmp_path}/compiled_artifacts.json: 1 problem\n"
        "  this product has no dbt project, so there is nothing to run\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml."
    )


# --- doors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [True, False], ids=["str", "Path"])
def test_loader_reads_the_artifacts_in_the_directory(
    tmp_path: Path,
    as_text: bool,  # noqa: FBT001  # a table's column
) -> None:
    write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))

    definitions = load_product_definitions("shop-orders", str(tmp_path) if as_text else tmp_path)

    assert _keys(definitions) == {"stg_orders"}


def test_loader_refuses_the_artifacts_of_another_product(tmp_path: Path) -> None:
    write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))

    with pytest.raises(ArtifactsError, match="is 'shop-orders', expected 'shop-returns'"):
        load_product_definitions("shop-returns", tmp_path)


def test_definitions_module_reads_the_environment_on_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("floe_orchestrator_dagster.definitions")
    with pytest.raises(ArtifactsError, match="the environment variable is not set"):
        module.defs()

    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))

    assert _keys(module.defs()) == {"stg_orders"}

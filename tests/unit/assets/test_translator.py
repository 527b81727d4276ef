"""Custom translators: attributes, keys, partition mappings and checks of dbt nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets

from floe_orchestrator_dagster import (
    EntryPointError,
    FloeDbtTranslator,
    load_definitions_from_environment,
    load_product_definitions,
)
from floe_orchestrator_dagster.product import load_product
from unit.dbt_shop import depends_on, write_dbt_shop
from unit.samples import Json, contract, model, node, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    Node = Mapping[str, Any]

_PERIOD_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
_FLOE_TAGS = {"floe/product": "shop-orders", "floe/tier": "bronze", "daily": ""}


class _Tags(FloeDbtTranslator):
    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {**super().get_tags(dbt_resource_props), "team": "sales"}


class _StockTags(DagsterDbtTranslator):
    """A translator written for plain dagster-dbt."""

    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {**super().get_tags(dbt_resource_props), "team": "sales"}


class _InheritedStockTags(_StockTags):
    pass


class _OwnTagsOnly(FloeDbtTranslator):
    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {"node": dbt_resource_props["name"]}


class _Keys(FloeDbtTranslator):
    def get_asset_key(self, dbt_resource_props: Node) -> dg.AssetKey:
        return super().get_asset_key(dbt_resource_props).with_prefix("eu")


class _KeysOfSpecs(FloeDbtTranslator):
    def get_asset_spec(self, manifest: Node, unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(key=spec.key.with_prefix("eu"), description=f"{unique_id} in Europe")


class _Mapping(FloeDbtTranslator):
    def get_partition_mapping(
        self, dbt_resource_props: Node, dbt_parent_resource_props: Node
    ) -> dg.PartitionMapping | None:
        edge = (dbt_parent_resource_props["name"], dbt_resource_props["name"])
        if edge in {("raw", "stg"), ("balance", "balance")}:
            return _PERIOD_BEFORE
        return super().get_partition_mapping(dbt_resource_props, dbt_parent_resource_props)


def _graph(
    directory: Path, translator: DagsterDbtTranslator | None, config: Json | None = None, *extra: Json
) -> AssetGraph:
    write_dbt_shop(directory, config, *extra)
    definitions = load_product_definitions("shop-orders", directory, translator=translator)
    dg.Definitions.validate_loadable(definitions)
    return definitions.resolve_asset_graph()


@pytest.mark.parametrize("translator", [_Tags(), _StockTags(), _InheritedStockTags()])
def test_super_returns_floes_values(tmp_path: Path, translator: DagsterDbtTranslator) -> None:
    tags = _graph(tmp_path, translator).get(dg.AssetKey("stg")).tags

    assert tags["team"] == "sales"
    assert tags.items() >= _FLOE_TAGS.items()


@pytest.mark.parametrize("translator", [FloeDbtTranslator(), DagsterDbtTranslator()])
def test_translator_without_overrides_changes_no_asset(tmp_path: Path, translator: DagsterDbtTranslator) -> None:
    plain, same = (_graph(tmp_path / str(row), given) for row, given in enumerate((None, translator)))

    described = [
        {node.key: (node.tags, node.group_name, node.description, node.owners) for node in graph.asset_nodes}
        for graph in (plain, same)
    ]
    assert described[0] == described[1]


def test_assets_keep_the_product_tag_that_a_translator_leaves_out(tmp_path: Path) -> None:
    graph = _graph(tmp_path, _OwnTagsOnly(), {"automation": [{"select": "*", "condition": "eager"}]})

    assert {key: value for key, value in graph.get(dg.AssetKey("stg")).tags.items() if "kind" not in key} == {
        "node": "stg",
        "floe/product": "shop-orders",
    }


@pytest.mark.parametrize("type_of_stg", ["daily", "weekly"])
def test_edge_has_the_translators_partition_mapping(tmp_path: Path, type_of_stg: str) -> None:
    rules = [_partitions("raw", "daily"), _partitions("stg", type_of_stg)]

    graph = _graph(tmp_path, _Mapping(), {"partitions": rules})

    assert graph.get(dg.AssetKey("stg")).partition_mappings == {dg.AssetKey("raw"): _PERIOD_BEFORE}
    assert graph.get(dg.AssetKey("mart")).partition_mappings == {}


def test_model_that_reads_itself_has_the_translators_partition_mapping(tmp_path: Path) -> None:
    meta = {"dagster": {"has_self_dependency": True}}
    balance = node("balance", depends_on=depends_on("model.shop.stg"), meta=meta)

    graph = _graph(tmp_path, _Mapping(), {"partitions": [_partitions("stg balance", "daily")]}, balance)

    own = graph.get(dg.AssetKey("balance"))
    assert own.parent_keys == {dg.AssetKey("stg"), own.key}
    assert own.partition_mappings == {own.key: _PERIOD_BEFORE}


def _partitions(select: str, kind: str) -> Json:
    return {"select": select, "type": kind, "start": "2026-01-01"}


@pytest.mark.parametrize("translator", [_Keys(), _KeysOfSpecs()])
def test_edges_checks_jobs_and_conditions_use_the_translators_keys(
    tmp_path: Path, translator: DagsterDbtTranslator
) -> None:
    rules = {
        "automation": [{"select": "stg", "condition": "eager"}],
        "jobs": [{"name": "bronze", "select": "stg"}],
    }
    write_dbt_shop(tmp_path, rules)

    definitions = load_product_definitions("shop-orders", tmp_path, translator=translator)

    graph = definitions.resolve_asset_graph()
    stg = graph.get(dg.AssetKey(["eu", "stg"]))
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        "eu/raw",
        "eu/stg",
        "eu/mart",
        "eu/wide_v1",
        "eu/erp/orders",
    }
    assert {key.to_user_string() for key in stg.parent_keys} == {"eu/raw", "eu/erp/orders"}
    assert {key.to_user_string() for key in graph.asset_check_keys} == {"eu/stg:unique_stg", "eu/mart:unique_mart"}
    assert definitions.resolve_job_def("bronze").asset_layer.executable_asset_keys == {dg.AssetKey(["eu", "stg"])}
    # The condition ignores the missing source, which it finds by the translated key.
    assert _requested_after_its_seed(definitions, stg.key) == 1


def _requested_after_its_seed(definitions: dg.Definitions, key: dg.AssetKey) -> int:
    everything = dg.AssetSelection.all()
    with dg.DagsterInstance.ephemeral() as instance:
        before = dg.evaluate_automation_conditions(definitions, instance, everything)
        instance.report_runless_asset_event(dg.AssetMaterialization(["eu", "raw"]))
        after = dg.evaluate_automation_conditions(definitions, instance, everything, cursor=before.cursor)
        return after.get_num_requested(key)


def test_asset_has_the_values_of_the_other_methods(tmp_path: Path) -> None:
    class Translator(FloeDbtTranslator):
        def get_group_name(self, dbt_resource_props: Node) -> str | None:
            named = super().get_group_name(dbt_resource_props)
            return f"{named}_seeds" if dbt_resource_props["resource_type"] == "seed" else named

        def get_description(self, dbt_resource_props: Node) -> str:
            return super().get_description(dbt_resource_props).upper()

        def get_metadata(self, dbt_resource_props: Node) -> Node:
            return {**super().get_metadata(dbt_resource_props), "file": dbt_resource_props["original_file_path"]}

        def get_owners(self, dbt_resource_props: Node) -> list[str]:
            return [*(super().get_owners(dbt_resource_props) or ()), "team:sales"]

        def get_automation_condition(self, dbt_resource_props: Node) -> dg.AutomationCondition[Any] | None:
            return super().get_automation_condition(dbt_resource_props) or dg.AutomationCondition.eager()

        def get_code_version(self, dbt_resource_props: Node) -> str:
            return f"2-{super().get_code_version(dbt_resource_props)}"[:5]

    graph = _graph(tmp_path, Translator())

    raw = graph.get(dg.AssetKey("raw"))
    assert (raw.group_name, raw.description) == ("shop_orders_seeds", "DBT SEED RAW")
    assert raw.metadata["file"] == "seeds/raw.csv"
    assert raw.tags["floe/product"] == "shop-orders"
    assert [*raw.owners] == ["team:sales"]
    assert raw.automation_condition == dg.AutomationCondition.eager()
    assert str(raw.code_version).startswith("2-")


@dataclass(frozen=True)
class _Frozen(DagsterDbtTranslator):
    team: str

    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {**super().get_tags(dbt_resource_props), "team": self.team}


def test_translator_keeps_its_constructor_arguments(tmp_path: Path) -> None:
    assert _graph(tmp_path, _Frozen("logistics")).get(dg.AssetKey("stg")).tags["team"] == "logistics"


def test_one_translator_serves_dagster_dbt_and_several_products(tmp_path: Path) -> None:
    translator = _StockTags()
    product = load_product(write_dbt_shop(tmp_path / "plain"))
    assert product.dbt is not None

    @dbt_assets(manifest=product.dbt.manifest.content, dagster_dbt_translator=translator)
    def plain():  # type: ignore[no-untyped-def]  # noqa: ANN202  # Dagster wants a tuple of all outputs
        raise NotImplementedError

    graphs = [
        _graph(tmp_path / prefix, translator, {"key_prefix": [prefix], "group_by": "tier"}) for prefix in ("a", "b")
    ]

    assert dg.AssetKey("stg") in plain.keys
    assert [
        graph.get(dg.AssetKey([prefix, "stg"])).tags["floe/tier"] for prefix, graph in zip("ab", graphs, strict=True)
    ]
    assert "floe/tier" not in plain.specs_by_key[dg.AssetKey("stg")].tags


class _Checks(FloeDbtTranslator):
    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Node, unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(blocking=False, metadata={"runbook": f"https://runbooks/{spec.name}"})


def test_translator_changes_metadata_and_blocking_of_a_check(tmp_path: Path) -> None:
    graph = _graph(tmp_path, _Checks())

    spec = graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey("stg"), "unique_stg"))
    assert spec.blocking is False
    assert spec.metadata["runbook"] == "https://runbooks/unique_stg"
    assert spec.metadata["dagster_dbt/unique_id"] == "test.shop.unique_stg"


class _NoChecks(FloeDbtTranslator):
    def get_asset_check_spec(self, *_: object) -> None:
        return None


class _RenamedChecks(FloeDbtTranslator):
    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Node, unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(name=f"{spec.name}_in_europe")


@pytest.mark.parametrize(
    ("translator", "given"),
    [(_NoChecks(), "None"), (_RenamedChecks(), "the check stg:unique_stg_in_europe")],
)
def test_check_without_a_spec_or_with_another_name_is_an_error(
    tmp_path: Path, translator: DagsterDbtTranslator, given: str
) -> None:
    with pytest.raises(EntryPointError) as raised:
        _graph(tmp_path, translator)

    assert str(raised.value) == (
        f"{type(translator).__name__}.get_asset_check_spec returns {given} for test.shop.unique_stg. Return a check "
        "named 'unique_stg' of the asset 'stg', as super() does. To omit a test, disable it in dbt."
    )


_NO_INSTANCE = "not an instance of DagsterDbtTranslator. Pass an instance"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_Tags, f"translator is the class _Tags, {_NO_INSTANCE}, `translator=_Tags()`."),
        ("upper", f"translator is of type str, {_NO_INSTANCE} of a subclass of FloeDbtTranslator."),
    ],
)
def test_value_that_is_not_a_translator_is_an_error(tmp_path: Path, given: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(EntryPointError) as raised:
        _graph(tmp_path, given)

    assert str(raised.value) == message


def test_translator_without_a_product_names_the_function_that_loads_it() -> None:
    with pytest.raises(EntryPointError) as raised:
        _Tags().get_tags({"name": "a", "tags": []})

    assert str(raised.value) == (
        "_Tags has no product. Pass it as `translator` to load_product_definitions, which calls it for each dbt node."
    )


def test_product_without_a_dbt_project_warns_that_the_translator_is_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))

    definitions = load_product_definitions("shop-orders", tmp_path, translator=_Tags())

    assert "team" not in definitions.resolve_asset_graph().get(dg.AssetKey("a")).tags
    expected = f"{path}: the translator is not used: no dbt project. Set FLOE_DBT_PROJECT_DIR to it."
    assert expected in [record.getMessage() for record in caplog.records]


def test_product_in_the_environment_accepts_a_translator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(write_dbt_shop(tmp_path)))

    definitions = load_definitions_from_environment(translator=_Tags())

    assert definitions.resolve_asset_graph().get(dg.AssetKey("mart")).tags["team"] == "sales"

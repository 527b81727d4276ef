"""Amount of work to load a product, in numbers of calls, and equality with dagster-dbt's result."""

from __future__ import annotations

import cProfile
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_dbt import asset_utils, dbt_assets
from dagster_dbt.asset_utils import get_manifest_and_translator_from_dbt_assets

from floe_orchestrator_dagster.assets.attributes import MANY_ASSETS
from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.manifest import _read_product_manifest
from floe_orchestrator_dagster.upstream import dagster_dbt_selection as preselection
from floe_orchestrator_dagster.upstream import patches
from unit.dbt_shop import depends_on, write_dbt_shop
from unit.samples import Json, node, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_OWN_NODES = 5  # the shop's: raw, stg, mart, wide, and its source


def _more(count: int) -> list[Json]:
    """Independent models, each with a test and two columns."""
    nodes = []
    for number in range(count):
        name = f"model_{number:03}"
        parents = [f"model.shop.model_{number - 1:03}"] if number else ["source.shop.erp.orders"]
        columns = {column: {"name": column, "data_type": "integer"} for column in ("id", "amount")}
        nodes.append(node(name, depends_on=depends_on(*parents), columns=columns, schema="main", database="shop"))
        of_this = {"depends_on": depends_on(f"model.shop.{name}"), "attached_node": f"model.shop.{name}"}
        nodes.append(node(f"unique_{name}", "test", **of_this))
    return nodes


def _write(directory: Path, count: int) -> Path:
    return write_dbt_shop(directory, None, *_more(count))


def _calls(work: Callable[[], object]) -> Mapping[tuple[str, str], int]:
    """Count the calls of each Python function, by its file's name and its own."""
    profile = cProfile.Profile()
    profile.enable()
    work()
    profile.disable()
    counted: dict[tuple[str, str], int] = {}
    for entry in profile.getstats():
        code: Any = entry.code
        if not isinstance(code, str):
            key = (code.co_filename.rpartition("/")[2], code.co_name)
            counted[key] = counted.get(key, 0) + entry.callcount
    return counted


def _snapshot(definitions: dg.Definitions) -> str:
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    return dg.serialize_value(RepositorySnap.from_def(repository))


def _load(artifacts: Path) -> str:
    return _snapshot(definitions_from_file(artifacts))


def _plain(artifacts: Path) -> dg.Definitions:
    @dbt_assets(manifest=artifacts.parent / "target" / "manifest.json")
    def everything() -> Any:  # noqa: ANN401  # Dagster reads the annotation
        yield from ()

    return dg.Definitions([everything])


@pytest.mark.parametrize("count", [1, 40, MANY_ASSETS + 1])
def test_asset_graph_is_that_of_plain_dagster_dbt(tmp_path: Path, count: int) -> None:
    artifacts = _write(tmp_path, count)
    plain, ours = _plain(artifacts).resolve_asset_graph(), definitions_from_file(artifacts).resolve_asset_graph()

    keys = plain.materializable_asset_keys
    assert ours.materializable_asset_keys == keys
    assert {key: ours.get(key).parent_keys for key in keys} == {key: plain.get(key).parent_keys for key in keys}
    assert {key: ours.get(key).check_keys for key in keys} == {key: plain.get(key).check_keys for key in keys}
    assert {key: ours.get(key).execution_type for key in keys} == {key: plain.get(key).execution_type for key in keys}
    for name in ("dagster/table_name", "dagster-dbt/materialization_type", "dagster/storage_kind"):
        assert {key: ours.get(key).metadata.get(name) for key in keys} == {
            key: plain.get(key).metadata.get(name) for key in keys
        }


@pytest.mark.parametrize("count", [1, MANY_ASSETS + 1])
def test_dbts_own_selection_has_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    artifacts = _write(tmp_path, count)
    ours = definitions_from_file(artifacts).resolve_asset_graph()
    monkeypatch.setattr(patches, "_states", {})
    for name in preselection._NAMES:
        if hasattr(asset_utils, name):
            ask = getattr(asset_utils, name)
            # A dagster-dbt whose function is called as we do not know it.
            monkeypatch.setattr(asset_utils, name, lambda *args, ask=ask, **named: ask(*args, **named))
    selected = definitions_from_file(artifacts).resolve_asset_graph()

    assert patches.state(patches.DBT_SELECTION).status == patches.GAVE_UP

    assert selected.asset_check_keys == ours.asset_check_keys
    for key in ours.get_all_asset_keys():
        node, same = ours.get(key), selected.get(key)
        assert (node.parent_keys, node.tags, node.owners, node.group_name, node.description) == (
            same.parent_keys,
            same.tags,
            same.owners,
            same.group_name,
            same.description,
        )


def test_functions_and_what_reads_models_are_loaded_without_patches_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, path = _write(tmp_path, 1), tmp_path / "target" / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    function = node("plus", "function", depends_on=depends_on("seed.shop.raw"))
    reading = {
        f"{kind}.shop.on_wide": node("on_wide", kind, depends_on=depends_on("model.shop.wide"))
        for kind in ("semantic_model", "saved_query")
    }
    content["functions"] = {"function.shop.plus": function}
    content["semantic_models"], content["saved_queries"] = (
        {unique_id: reader} for unique_id, reader in reading.items()
    )
    content["nodes"]["model.shop.model_000"]["depends_on"] = depends_on("function.shop.plus")
    content["parent_map"] |= {"model.shop.model_000": ["function.shop.plus"], "function.shop.plus": ["seed.shop.raw"]}
    content["parent_map"] |= {unique_id: ["model.shop.wide"] for unique_id in reading}
    content["child_map"]["source.shop.erp.orders"].remove("model.shop.model_000")
    content["child_map"]["seed.shop.raw"].append("function.shop.plus")
    content["child_map"]["model.shop.wide"].extend(reading)
    content["child_map"] |= {"function.shop.plus": ["model.shop.model_000"], **{unique_id: [] for unique_id in reading}}
    write_json(path, content)

    loaded = []
    for value in ("on", "off"):
        monkeypatch.setenv("FLOE_UPSTREAM_PATCHES", value)
        graph = definitions_from_file(artifacts).resolve_asset_graph()
        keys = graph.get_all_asset_keys()
        loaded.append({key: (graph.get(key).parent_keys, graph.get(key).check_keys) for key in keys})

    assert loaded[0] == loaded[1]
    assert loaded[1][dg.AssetKey("model_000")][0] == {dg.AssetKey("raw")}


def test_each_node_is_translated_once_and_dbt_selects_nothing(tmp_path: Path) -> None:
    artifacts = _write(tmp_path, 30)

    calls = _calls(partial(_load, artifacts))

    assert calls["dagster_dbt_translator.py", "get_asset_spec"] == 30 + _OWN_NODES
    assert calls.get(("utils.py", "_select_unique_ids_from_manifest"), 0) == 0
    assert calls.get(("utils.py", "select_unique_ids_from_manifest"), 0) == 0


def test_nodes_of_several_stages_are_translated_once_in_all(tmp_path: Path) -> None:
    rows = [{"type": "daily", "select": "model_001", "start": "2026-01-01"}]
    artifacts = write_dbt_shop(tmp_path, {"partitions": rows}, *_more(3))

    calls = _calls(lambda: definitions_from_file(artifacts))

    assert calls["asset_decorator.py", "dbt_assets"] == 3
    assert calls["dagster_dbt_translator.py", "get_asset_spec"] == 3 + _OWN_NODES


def test_manifest_is_trimmed_once_for_all_processes_and_read_once_in_each(tmp_path: Path) -> None:
    artifacts = _write(tmp_path, 3)

    def load_twice() -> None:
        load_product(artifacts)
        load_product(artifacts)

    first = _calls(load_twice)
    _read_product_manifest.cache_clear()  # as in a new process
    second = _calls(load_twice)

    assert (first["trimming.py", "trim"], first["trimmed_file.py", "write_trimmed"]) == (1, 1)
    assert (second.get(("trimming.py", "trim"), 0), second["trimmed_file.py", "read_trimmed"]) == (0, 1)


def test_columns_of_many_assets_are_not_parsed(tmp_path: Path) -> None:
    artifacts = _write(tmp_path, MANY_ASSETS + 1)
    load_product(artifacts)
    _read_product_manifest.cache_clear()  # as in a new process

    calls = _calls(partial(_load, artifacts))

    assert calls["trimmed_file.py", "read_trimmed"] == 1
    assert ("sharing.py", "_all") not in calls
    dbt = load_product(artifacts).dbt
    assert dbt is not None
    columns = dbt.manifest.content["nodes"]["model.shop.model_000"]["columns"]
    assert ("sharing.py", "_all") in _calls(partial(dict, columns))


def test_twice_the_models_are_twice_the_work(tmp_path: Path) -> None:
    sizes = (MANY_ASSETS + 1, 2 * (MANY_ASSETS + 1))
    artifacts = [_write(tmp_path / str(size), size) for size in sizes]
    _load(artifacts[0])  # excludes work that is done once per process
    load_product(artifacts[1])  # excludes work that is done once per manifest

    small, large = (_calls(partial(_load, path)) for path in artifacts)

    assert sum(large.values()) / sum(small.values()) < 2.1
    growing = {
        name: (small[name], count) for name, count in large.items() if name in small and small[name] > MANY_ASSETS
    }
    assert {name: counts for name, counts in growing.items() if counts[1] / counts[0] > 2.3} == {}


def test_definitions_of_many_assets_are_reduced(tmp_path: Path) -> None:
    few, many = (definitions_from_file(_write(tmp_path / str(count), count)) for count in (1, MANY_ASSETS + 1))
    key = dg.AssetKey("model_000")

    whole, lean = (definitions.resolve_asset_graph().get(key) for definitions in (few, many))

    assert "dagster/column_schema" in whole.metadata
    assert "dagster/column_schema" not in lean.metadata
    assert lean.tags == whole.tags
    [labelled], [file] = (found.metadata["dagster/code_references"].code_references for found in (whole, lean))
    assert file.label is None
    assert file.file_path.endswith(f"/{labelled.label}")
    assert lean.metadata["dagster/table_name"] == "shop.main.model_000"
    assert {"floe/product", "floe/source_hash"} <= (many.metadata or {}).keys()


def test_dagster_dbt_finds_manifest_and_translator_of_many_assets(tmp_path: Path) -> None:
    product = load_product(_write(tmp_path, MANY_ASSETS + 1))
    [assets] = [asset for asset in build_definitions(product).assets or [] if isinstance(asset, dg.AssetsDefinition)]

    manifest, translator, *_ = get_manifest_and_translator_from_dbt_assets([assets])

    assert "model.shop.model_000" in manifest["nodes"]
    assert translator.get_asset_key(manifest["nodes"]["model.shop.model_000"]) == dg.AssetKey("model_000")

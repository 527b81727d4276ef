"""dbt's manifest: lookup, caching, trimming, and comparison with the contract."""

from __future__ import annotations

import copy
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import ManifestError
from floe_orchestrator_dagster.product.manifest import (
    Manifest,
    check_models_exist,
    find_manifest,
    prepared_manifest,
    read_manifest,
)
from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import Json, manifest, model, node, project, source, validated, write_json

if TYPE_CHECKING:
    from pathlib import Path

_FIX = "Add the model, or remove it from floe.yaml and compile again; then run `floe-dagster prepare`."


def _read(path: Path, *nodes: Json, **changes: Json) -> Manifest:
    return read_manifest(write_json(path / "manifest.json", {**manifest(*nodes), **changes}))


# --- found ----------------------------------------------------------------------------------------------------------


def test_manifest_is_found_in_the_target_directory(tmp_path: Path) -> None:
    directory = project(tmp_path, **{"target-path": "out"})
    path = write_json(tmp_path / "out" / "manifest.json", manifest())

    assert find_manifest(directory) == path
    assert prepared_manifest(directory, None).path == path


def test_manifest_in_the_moved_target_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "moved"))
    directory = project(tmp_path / "shop")
    own = write_json(tmp_path / "shop" / "target" / "manifest.json", manifest())
    assert find_manifest(directory) == own

    moved = write_json(tmp_path / "moved" / "manifest.json", manifest())

    assert find_manifest(directory) == moved


def test_missing_manifest_says_how_to_generate_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "moved"))
    directory = project(tmp_path / "shop")

    with pytest.raises(ManifestError) as raised:
        prepared_manifest(directory, tmp_path / "compiled.json")

    assert find_manifest(directory) is None
    assert str(raised.value) == (
        f"{tmp_path}/shop: 1 problem\n"
        f"  no manifest.json in {tmp_path}/moved and {tmp_path}/shop/target\n"
        f"    fix: Run `floe-dagster prepare {tmp_path}/compiled.json` (dbt deps and dbt parse)."
    )


# --- read -----------------------------------------------------------------------------------------------------------


def test_file_is_parsed_once(tmp_path: Path) -> None:
    path = write_json(tmp_path / "manifest.json", manifest(node("stg_orders")))

    assert read_manifest(path) is read_manifest(path)


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    before = _read(tmp_path, node("stg_orders"))

    after = _read(tmp_path, node("stg_orders"), node("fct_orders"))

    assert before.names == {"stg_orders"}
    assert after.names == {"stg_orders", "fct_orders"}


def test_file_of_the_same_size_with_a_new_time_is_read_again(tmp_path: Path) -> None:
    before = _read(tmp_path, node("stg_orders"))

    path = write_json(tmp_path / "manifest.json", manifest(node("fct_orders")))
    os.utime(path, (1, 1))

    assert read_manifest(path) is not before


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"metadata": {}, "nodes": {', "(line 1, column 28)"),
        ("", "(line 1, column 1)"),
        ("metadata:\n  x: 1\n", "(line 1, column 1)"),
    ],
    ids=["truncated", "empty", "yaml"],
)
def test_truncated_file_or_one_that_is_not_json_is_refused(tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ManifestError) as raised:
        read_manifest(path)

    # The words between are orjson's.
    message = str(raised.value)
    assert message.startswith(f"{path}: 1 problem\n  is not JSON, or is cut off: ")
    assert message.endswith(f" {place}\n    fix: Run `floe-dagster prepare` to write it again.")


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ([], [""]),
        ("manifest", [""]),
        ({}, ["metadata", "nodes", "sources", "parent_map", "child_map"]),
        ({"metadata": {}, "nodes": {}, "sources": {}}, ["parent_map", "child_map"]),
        ({"metadata": {}, "nodes": [], "sources": None, "parent_map": {}, "child_map": {}}, ["nodes", "sources"]),
    ],
)
def test_json_that_is_not_a_manifest_is_refused_with_the_missing_fields(
    tmp_path: Path, content: object, places: list[str]
) -> None:
    path = write_json(tmp_path / "manifest.json", content)

    with pytest.raises(ManifestError) as raised:
        read_manifest(path)

    assert raised.value.origin == str(path)
    assert [problem.where for problem in raised.value.problems] == places


@pytest.mark.parametrize("broken", [{"nodes": {"model.shop.a": 1}}, {"sources": {"source.shop.a": None}}])
def test_manifest_with_a_node_that_is_not_an_object_is_refused(tmp_path: Path, broken: Json) -> None:
    with pytest.raises(ManifestError, match="must be a mapping"):
        _read(tmp_path, **broken)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "manifest.json", manifest())
    path.chmod(0o000)

    with pytest.raises(ManifestError, match=r"cannot be read \(Permission denied\)"):
        read_manifest(path)


# --- trimmed --------------------------------------------------------------------------------------------------------


def test_code_macros_and_docs_are_dropped() -> None:
    kept = trim(manifest(node("stg_orders")))

    assert {"macros", "docs"} & set(kept) == set()
    assert {"raw_code", "compiled_code", "docs", "build_path"} & set(kept["nodes"]["model.shop.stg_orders"]) == set()


def test_functions_are_kept_without_code_and_change_the_version_of_their_callers() -> None:
    def trimmed(code: str) -> Json:
        inner = node("inner", "function", raw_code=code)
        outer = node("outer", "function", depends_on={"nodes": [inner["unique_id"]], "macros": []})
        caller = node("caller", depends_on={"nodes": [outer["unique_id"]], "macros": []})
        full = manifest(node("plain"), caller, functions={one["unique_id"]: one for one in (inner, outer)})
        full["parent_map"] |= {one["unique_id"]: one["depends_on"]["nodes"] for one in (inner, outer)}
        return trim(full)

    before, after = trimmed("x + 1"), trimmed("x + 2")

    assert "raw_code" not in before["functions"]["function.shop.inner"]
    versions = [
        {unique_id: entry["code_version"] for unique_id, entry in kept["nodes"].items()} for kept in (before, after)
    ]
    assert [unique_id for unique_id in versions[0] if versions[0][unique_id] != versions[1][unique_id]] == [
        "model.shop.caller"
    ]


def test_collections_that_dagster_dbt_reads_are_kept_as_they_are() -> None:
    full = manifest(
        node("stg_orders"),
        exposures={"exposure.shop.x": {"name": "x"}},
        groups={"group.shop.g": {"name": "g", "owner": {"email": "g@example.com"}}},
        unit_tests={"unit_test.shop.u": {"name": "u"}},
    )

    kept = trim(full)

    for key in (
        "metadata",
        "parent_map",
        "child_map",
        "groups",
        "exposures",
        "metrics",
        "semantic_models",
        "saved_queries",
        "selectors",
    ):
        assert kept[key] == full[key]
    assert kept["unit_tests"].keys() == full["unit_tests"].keys()
    assert kept["unit_tests"]["unit_test.shop.u"].items() >= {"name": "u"}.items()
    assert full["unit_tests"] == {"unit_test.shop.u": {"name": "u"}}


def test_collections_that_an_older_dbt_does_not_write_are_empty() -> None:
    full = manifest(node("stg_orders"), functions=None)
    del full["unit_tests"]

    kept = trim(full)

    assert kept["unit_tests"] == {}
    assert kept["functions"] == {}


def test_fields_of_a_node_that_are_kept_are_unchanged() -> None:
    full = node(
        "fct_orders",
        description="Orders",
        meta={"dagster": {"group": "g"}},
        group="g",
        columns={"id": {"name": "id"}},
        version=2,
        attached_node=None,
    )

    kept = trim(manifest(full))["nodes"]["model.shop.fct_orders"]

    assert {key: value for key, value in kept.items() if key != "code_version"} == {
        key: value for key, value in full.items() if key not in {"raw_code", "compiled_code", "docs", "build_path"}
    }


def test_sources_are_trimmed_too() -> None:
    source = node("raw_orders", "source", source_name="raw", identifier="ORDERS", quoting={"database": True})

    kept = trim(manifest(sources=(source,)))["sources"]["source.shop.raw_orders"]

    assert (kept["source_name"], kept["identifier"]) == ("raw", "ORDERS")
    assert "quoting" not in kept


def test_trimming_leaves_the_original_alone() -> None:
    full = manifest(node("stg_orders"), sources=(node("raw", "source"),))
    before = copy.deepcopy(full)

    trim(full)

    assert full == before


def test_only_names_of_disabled_nodes_are_kept() -> None:
    kept = trim(manifest(disabled={"model.shop.old": [node("old")]}))

    assert kept["disabled"] == {"model.shop.old": None}


# --- content --------------------------------------------------------------------------------------------------------


def test_models_seeds_and_snapshots_are_assets_and_tests_are_not(tmp_path: Path) -> None:
    read = _read(
        tmp_path,
        node("fct_orders"),
        node("stores", "seed"),
        node("orders_history", "snapshot"),
        node("not_null_id", "test"),
        node("adhoc", "analysis"),
        node("int_orders", config={"materialized": "ephemeral"}),
    )

    assert [entry["name"] for entry in read.asset_nodes] == ["fct_orders", "stores", "orders_history"]


def test_names_are_those_a_contract_may_depend_on(tmp_path: Path) -> None:
    nodes = manifest(
        node("fct_orders"),
        node("stores", "seed"),
        node("orders_history", "snapshot"),
        node("not_null_id", "test"),
        node("int_orders", config={"materialized": "ephemeral"}),
        sources=(source("erp", "raw_orders"),),
    )
    read = read_manifest(write_json(tmp_path / "manifest.json", nodes))

    assert read.names == {"fct_orders", "stores", "orders_history", "int_orders", "raw_orders"}


# --- comparison with the contract -----------------------------------------------------------------------------------


def test_models_that_dbt_has_are_accepted(tmp_path: Path) -> None:
    read = _read(tmp_path, node("stg_orders"), node("fct_orders"), node("stores", "seed"))

    check_models_exist(validated(model("stg_orders"), model("stores")), read, "contract")


def test_contract_without_transforms_matches_every_manifest(tmp_path: Path) -> None:
    check_models_exist(validated(), _read(tmp_path), "contract")


def test_missing_models_are_reported_with_the_closest_one(tmp_path: Path) -> None:
    read = _read(tmp_path, node("stg_orders"))
    artifacts = validated(model("stg_orders"), model("stg_order"), model("xyz"))

    with pytest.raises(ManifestError) as raised:
        check_models_exist(artifacts, read, "contract")

    assert str(raised.value) == (
        "contract: 2 problems\n"
        f"  transforms.models[1].name: 'stg_order' is not in the dbt manifest {read.path} "
        "(did you mean 'stg_orders'?)\n"
        f"  transforms.models[2].name: 'xyz' is not in the dbt manifest {read.path}\n"
        f"    fix: {_FIX}"
    )


def test_in_dagster_dev_a_reload_parses_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")

    with pytest.raises(ManifestError, match=r"compile again; then load the code location again\.$"):
        check_models_exist(validated(model("xyz")), _read(tmp_path), "contract")


def test_disabled_model_is_reported_as_disabled(tmp_path: Path) -> None:
    read = _read(tmp_path, node("stg_orders"), disabled={"model.shop.old_orders": [node("old_orders")]})

    with pytest.raises(ManifestError) as raised:
        check_models_exist(validated(model("old_orders")), read, "contract")

    assert str(raised.value) == (
        "contract: 1 problem\n"
        f"  transforms.models[0].name: 'old_orders' is not in the dbt manifest {read.path} (it is disabled there)\n"
        f"    fix: {_FIX}"
    )


def _versioned(version: int) -> Json:
    alias = f"customers_v{version}"
    return node(
        "customers", unique_id=f"model.shop.customers.v{version}", alias=alias, version=version, latest_version=2
    )


@pytest.mark.parametrize("name", ["customers", "customers_v1", "customers_v2"])
def test_versioned_model_is_known_by_its_name_and_by_each_alias(tmp_path: Path, name: str) -> None:
    read = _read(tmp_path, _versioned(1), _versioned(2))

    check_models_exist(validated(model(name)), read, "contract")


@pytest.mark.parametrize("name", ["customers", "customers_v1", "customers_v2"])
def test_contract_may_depend_on_a_versioned_model_by_its_name_and_by_each_alias(tmp_path: Path, name: str) -> None:
    assert name in _read(tmp_path, _versioned(1), _versioned(2)).names


def test_version_that_dbt_does_not_have_is_refused(tmp_path: Path) -> None:
    read = _read(tmp_path, _versioned(1))

    with pytest.raises(ManifestError, match=r"'customers_v9' is not in the dbt manifest .* \(did you mean"):
        check_models_exist(validated(model("customers_v9")), read, "contract")


def test_many_ephemeral_models_in_layers_are_read_through_once_each(tmp_path: Path) -> None:
    """Each of 60 layers reads both models of the layer below: there are 2**60 ways to the table."""
    layers = [[f"model.shop.e{row}{side}" for side in "ab"] for row in range(60)]
    names = [unique_id.rpartition(".")[2] for layer in layers for unique_id in layer]
    ephemeral = [node(name, config={"materialized": "ephemeral"}) for name in names]
    parents = {unique_id: below for below, layer in pairwise(layers) for unique_id in layer}
    parents |= {unique_id: ["model.shop.table"] for unique_id in layers[0]}

    found = _read(tmp_path, *ephemeral, node("table"), parent_map=parents).relations_read_by(layers[-1][0])

    assert found == {"model.shop.table"}

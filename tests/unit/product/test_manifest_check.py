"""Errors of malformed manifests, each with its place, the node's file and the type found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.errors import ManifestError
from floe_orchestrator_dagster.product.manifest import read_manifest, read_product_manifest
from floe_orchestrator_dagster.product.manifest_check import checked_shape
from unit.samples import Json, contract, manifest, model, node, source, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

WRITE_AGAIN = "Run `floe-dagster prepare` to write the manifest again."
IN_A = "nodes.model.shop.a"


def problems(content: object, path: Path) -> list[tuple[str, str, str]]:
    with pytest.raises(ManifestError) as raised:
        checked_shape(content, path)
    assert raised.value.origin == str(path)
    return [(problem.where, problem.what, problem.fix) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"meta": ["a"]}, "meta", "must be a mapping, not an array"),
        ({"meta": {"dagster": None}}, "meta.dagster", "must be a mapping, not null"),
        ({"meta": {"dagster": {"group": 1}}}, "meta.dagster.group", "must be a string, not a number"),
        (
            {"meta": {"dagster": {"asset_key": {"a": 1}}}},
            "meta.dagster.asset_key",
            "must be a string or a list of strings, not an object",
        ),
        ({"meta": {"dagster": {"ref": "a"}}}, "meta.dagster.ref", "must be a mapping, not a string"),
        ({"meta": {"dagster": {"ref": {"package": "shop"}}}}, "meta.dagster.ref.name", "is missing"),
        ({"meta": {"dagster": {"reuse": "yes"}}}, "meta.dagster.reuse", "must be true or false, not a string"),
        ({"meta": {"dagster": {"partitions": "joint"}}}, "meta.dagster.partitions", "must be 'disjoint', not 'joint'"),
        ({"meta": {"dagster": {"partitions": True}}}, "meta.dagster.partitions", "must be 'disjoint', not a boolean"),
        ({"config": {"meta": {"dagster": "a"}}}, "config.meta.dagster", "must be a mapping, not a string"),
        ({"config": None}, "config", "must be a mapping, not null"),
        ({"columns": "id"}, "columns", "must be a mapping, not a string"),
        ({"columns": {"id": 1}}, "columns.id", "must be a mapping, not a number"),
        ({"columns": {"id": {"tags": "pii"}}}, "columns.id.tags", "must be a list, not a string"),
        ({"description": {}}, "description", "must be a string, not an object"),
        ({"tags": [1]}, "tags", "must be a string or a list of strings, not an array"),
    ],
)
def test_fix_of_an_authored_field_names_the_file(tmp_path: Path, fields: Json, where: str, what: str) -> None:
    content = manifest(node("a", patch_path="shop://models/marts.yml", **fields))

    fix = "Correct it in models/marts.yml, then run `floe-dagster prepare`."
    assert problems(content, tmp_path / "manifest.json") == [(f"{IN_A}.{where}", what, fix)]


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"fqn": "shop.a"}, "fqn", "must be a list, not a string (of models/a.sql)"),
        ({"name": None}, "name", "must be a string, not null (of models/a.sql)"),
        ({"depends_on": []}, "depends_on", "must be a mapping, not an array (of models/a.sql)"),
        ({"depends_on": {"nodes": [1]}}, "depends_on.nodes.0", "must be a string, not a number (of models/a.sql)"),
        ({"raw_code": 1}, "raw_code", "must be a string, not a number (of models/a.sql)"),
    ],
)
def test_fix_of_a_generated_field_is_to_prepare_again(tmp_path: Path, fields: Json, where: str, what: str) -> None:
    content = manifest(nodes={"model.shop.a": {**node("a"), **fields}})

    assert problems(content, tmp_path / "manifest.json") == [(f"{IN_A}.{where}", what, WRITE_AGAIN)]


@pytest.mark.parametrize("field", ["name", "resource_type", "package_name", "fqn", "config"])
def test_node_without_a_required_field_is_named(tmp_path: Path, field: str) -> None:
    entry = node("a")
    del entry[field]

    [(where, what, _)] = problems(manifest(nodes={"model.shop.a": entry}), tmp_path / "manifest.json")

    assert (where, what) == (f"{IN_A}.{field}", "is missing (of models/a.sql)")


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"parent_map": False}, "parent_map", "must be a mapping, not a boolean"),
        ({"parent_map": {"a": None}}, "parent_map.a", "must be a list, not null"),
        ({"child_map": {"a": [None]}}, "child_map.a.0", "must be a string, not null"),
        ({"nodes": []}, "nodes", "must be a mapping, not an array"),
        ({"metadata": None}, "metadata", "must be a mapping, not null"),
        ({"exposures": {"exposure.shop.e": {"name": "e"}}}, "exposures.exposure.shop.e.resource_type", "is missing"),
        ({"groups": {"group.shop.g": []}}, "groups.group.shop.g", "must be a mapping, not an array"),
        ({"unit_tests": [1]}, "unit_tests", "must be a mapping, not an array"),
        ({"macros": {"macro.a": 1}}, "macros.macro.a", "must be a mapping, not a number"),
    ],
)
def test_collection_of_another_shape_is_named(tmp_path: Path, changes: Json, where: str, what: str) -> None:
    assert (where, what, WRITE_AGAIN) in problems(manifest(node("a"), **changes), tmp_path / "manifest.json")


@pytest.mark.parametrize("alias", [{}, {"alias": None}])
def test_version_without_an_alias_is_named(tmp_path: Path, alias: Json) -> None:
    versioned = {name: value for name, value in node("a").items() if name != "alias"}

    found = problems(manifest({**versioned, "version": 2, **alias}), tmp_path / "manifest.json")

    assert found == [(f"{IN_A}.alias", "is missing, and the model has a version", WRITE_AGAIN)]


def test_missing_parent_is_named(tmp_path: Path) -> None:
    content = manifest(node("a", depends_on={"nodes": ["model.shop.gone"], "macros": []}))

    assert problems(content, tmp_path / "manifest.json") == [
        (f"{IN_A}.depends_on.nodes", "reads 'model.shop.gone', which is not in the manifest", WRITE_AGAIN)
    ]


@pytest.mark.parametrize("collection", ["parent_map", "child_map"])
@pytest.mark.parametrize("ids", [("model.shop.a", ["test.shop.gone"]), ("test.shop.gone", [])])
def test_missing_member_of_the_graph_is_named(tmp_path: Path, collection: str, ids: tuple[str, list[str]]) -> None:
    content = {**manifest(node("a")), collection: dict([ids])}

    assert problems(content, tmp_path / "manifest.json") == [
        (f"{collection}.{ids[0]}", "names 'test.shop.gone', which is not in the manifest", WRITE_AGAIN)
    ]


def test_first_twenty_problems_are_shown_with_the_number_of_the_others(tmp_path: Path) -> None:
    content = manifest(*[node(f"a{number}", columns=1) for number in range(25)])

    found = problems(content, tmp_path / "manifest.json")

    assert len(found) == 21
    assert found[-1][1] == "and 5 more of this kind"


def test_graph_with_a_cycle_is_refused(tmp_path: Path) -> None:
    content = manifest(
        node("a"), node("b"), parent_map={"model.shop.a": ["model.shop.b"], "model.shop.b": ["model.shop.a"]}
    )
    path = write_json(tmp_path / "manifest.json", content)

    with pytest.raises(ManifestError, match=r"parent_map: has a cycle: model\.shop\.. -> model\.shop\.. -> model"):
        read_manifest(path)


@pytest.mark.parametrize("place", ["meta", "unrendered_config"])
def test_values_nested_too_deeply_are_refused(tmp_path: Path, place: str) -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    path = write_json(tmp_path / "manifest.json", manifest({**node("a"), place: {"deep": deep}}))

    with pytest.raises(ManifestError, match="is nested too deeply"):
        read_product_manifest(path)


def test_null_and_unknown_keys_are_accepted(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("meta", "tags", "columns", "checksum", "unrendered_config", "patch_path", "group", "access")
    )
    content = manifest(
        {**node("a", newer={"key": 1}), **nothing},
        sources=(source("erp", "orders", freshness=None),),
        exposures=None,
        newer=[],
    )
    path = write_json(tmp_path / "manifest.json", content)

    found = read_manifest(path).content["nodes"]["model.shop.a"]

    assert not found.keys() & {"meta", "tags", "columns", "checksum"}


def test_node_whose_config_is_empty_can_be_selected(tmp_path: Path) -> None:
    write_json(write_project(tmp_path) / "target" / "manifest.json", manifest({**node("a"), "config": {}}))
    config = {"jobs": [{"name": "some", "select": "package:shop"}]}
    artifacts = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), config=config))

    result = CliRunner().invoke(main, ["plan", str(artifacts)])

    assert (result.exit_code, result.exception, result.stderr) == (0, None, "")


def test_meta_that_is_null_is_one_problem_of_the_file(tmp_path: Path) -> None:
    meta = {"dagster": None}
    entry = node("a", patch_path="shop://models/s.yml", meta=meta, config={"materialized": "view", "meta": meta})
    write_json(write_project(tmp_path) / "target" / "manifest.json", manifest(entry))
    artifacts = write_json(tmp_path / "compiled_artifacts.json", contract(model("a")))

    result = CliRunner().invoke(main, ["validate", str(artifacts)])

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path}/target/manifest.json: 1 problem\n"
        f"  {IN_A}.meta.dagster: must be a mapping, not null\n"
        "    fix: Correct it in models/s.yml, then run `floe-dagster prepare`.\n"
    )

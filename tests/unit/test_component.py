"""``FloeProductComponent``: products in the layout of a Dagster project that ``create-dagster`` makes."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml

import floe_orchestrator_dagster
from files import write_files
from processes import run_python
from unit.samples import contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not hasattr(dg, "load_from_defs_folder"), reason="Dagster before 1.11 loads components through other functions"
)

_TYPE = "floe_orchestrator_dagster.FloeProductComponent"
_TRANSLATORS = """
    from floe_orchestrator_dagster import FloeDbtTranslator


    class Mine(FloeDbtTranslator):
        def get_tags(self, dbt_resource_props):
            return {**super().get_tags(dbt_resource_props), "team": "shop"}
    """


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the root of a Dagster project with one Python package, in which templates and paths work as with `dg`."""
    write_files(
        tmp_path,
        {
            "pyproject.toml": """
                [tool.dg]
                directory_type = "project"
                [tool.dg.project]
                root_module = "ours"
                """,
            "src/ours/__init__.py": "",
            "src/ours/defs/__init__.py": "",
            "src/ours/translators.py": _TRANSLATORS,
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "ours"]:
        del sys.modules[name]


def _product(directory: Path, name: str, *, config: dict[str, Any] | None = None) -> Path:
    """Write a product with the models stg_orders and orders, and its parsed manifest; returns the artifacts."""
    orders = node("orders", depends_on={"nodes": ["model.shop.stg_orders"]})
    write_json(write_project(directory) / "target" / "manifest.json", manifest(node("stg_orders"), orders))
    compiled = profiles(name)
    compiled[name]["outputs"]["production"] = {"type": "duckdb", "path": "{{ env_var('SHOP_FILE') }}"}
    models = (model("stg_orders"), model("orders", "stg_orders"))
    content = contract(*models, name=name, config=config, dbt_profiles=compiled)
    return write_json(directory / "compiled_artifacts.json", content)


def _component(root: Path, name: str, **attributes: object) -> None:
    content = {"type": _TYPE, "attributes": attributes}
    write_files(root, {f"src/ours/defs/{name}/defs.yaml": yaml.safe_dump(content)})


def _load(root: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=root / "src" / "ours")


def _refused(root: Path) -> str:
    """Load a project that Dagster must refuse; returns the messages of all causes."""
    with pytest.raises(Exception, match="Error while") as raised:
        _load(root).get_repository_def()
    said, cause = "", raised.value.__cause__
    while cause is not None:
        said, cause = f"{said}{cause}\n", cause.__cause__
    return said


def _keys(definitions: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}


def test_package_is_registered_for_dg() -> None:
    [registered] = entry_points(group="dagster_dg_cli.registry_modules", name="floe_orchestrator_dagster")

    assert registered.load() is floe_orchestrator_dagster
    assert floe_orchestrator_dagster.FloeProductComponent.__name__ in dir(floe_orchestrator_dagster)


def test_product_has_the_assets_jobs_and_keys_that_it_has_without_a_component(root: Path) -> None:
    path = _product(root / "shop", "shop-orders", config={"default_schedule": "@daily"})
    _component(root, "shop", artifacts="{{ context.project_root }}/shop/compiled_artifacts.json")

    definitions = _load(root)

    alone = floe_orchestrator_dagster.load_product_definitions("shop-orders", path.parent)
    assert _keys(definitions) == _keys(alone) == {"stg_orders", "orders"}
    repository = definitions.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"shop_orders"}
    assert [schedule.name for schedule in repository.schedule_defs] == ["shop_orders_schedule"]


def test_relative_paths_start_at_the_component(root: Path) -> None:
    path = _product(root / "elsewhere" / "shop", "shop-orders")
    moved = path.rename(root / "elsewhere" / "compiled_artifacts.json")
    up = "../../../../elsewhere"
    _component(root, "shop", artifacts=f"{up}/{moved.name}", project_dir=f"{up}/shop")

    assert _keys(_load(root)) == {"stg_orders", "orders"}


def test_products_of_one_project_keep_their_own_executors(root: Path) -> None:
    _product(root / "shop", "shop", config={"key_prefix": ["shop"], "executor": "in_process"})
    _product(root / "crm", "crm", config={"key_prefix": ["crm"]})
    for name in ("shop", "crm"):
        _component(root, name, artifacts=f"{{{{ context.project_root }}}}/{name}/compiled_artifacts.json")

    definitions = _load(root)

    assert _keys(definitions) == {"shop/stg_orders", "shop/orders", "crm/stg_orders", "crm/orders"}
    repository = definitions.get_repository_def()
    executors = {name: repository.get_job(name).executor_def.name for name in ("shop", "crm")}
    assert executors == {"shop": "in_process", "crm": "multiprocess"}


def test_environment_selects_the_output_of_one_product(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLOE_ENV", "dev")
    paths = {name: _product(root / name, name, config={"key_prefix": [name]}) for name in ("shop", "crm")}
    _component(root, "shop", artifacts="../../../../shop/compiled_artifacts.json", environment="production")
    _component(root, "crm", artifacts="../../../../crm/compiled_artifacts.json")

    assert len(_keys(_load(root))) == 4

    assert caplog.messages == [f"{paths['shop']}: the dbt profile reads SHOP_FILE, which is not set; runs will fail"]


def test_translation_changes_specs_by_the_dbt_node(root: Path) -> None:
    _product(root / "shop", "shop-orders")
    translation = {
        "key_prefix": "sales",
        "group_name": "{{ node.resource_type }}s",
        "tags": {"model": "{{ node.name }}"},
        "description": "{{ spec.key.path[-1] }} of sales",
    }
    _component(root, "shop", artifacts="../../../../shop/compiled_artifacts.json", translation=translation)

    specs = {spec.key.to_user_string(): spec for spec in _load(root).resolve_all_asset_specs()}

    assert set(specs) == {"sales/stg_orders", "sales/orders"}
    orders = specs["sales/orders"]
    assert [dep.asset_key.to_user_string() for dep in orders.deps] == ["sales/stg_orders"]
    assert (orders.group_name, orders.description) == ("models", "orders of sales")
    assert (orders.tags["model"], orders.tags["floe/product"]) == ("orders", "shop-orders")


def test_translator_is_imported_by_its_name_and_combined_with_the_translation(root: Path) -> None:
    _product(root / "shop", "shop-orders")
    _component(
        root,
        "shop",
        artifacts="../../../../shop/compiled_artifacts.json",
        translator="ours.translators.Mine",
        translation={"tags": {"also": "this"}},
    )

    [spec, *_] = _load(root).resolve_all_asset_specs()

    assert (spec.tags["team"], spec.tags["also"], spec.tags["floe/product"]) == ("shop", "this", "shop-orders")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Mine", "translator 'Mine' is not a subclass of FloeDbtTranslator. Write it as module.Class"),
        ("ours.missing.Mine", "translator 'ours.missing.Mine' cannot be imported: No module named 'ours.missing'"),
        ("ours.translators.Other", "cannot be imported: module 'ours.translators' has no attribute 'Other'"),
        ("pathlib.Path", "translator 'pathlib.Path' is not a subclass of FloeDbtTranslator"),
    ],
)
def test_name_that_is_no_translator_is_refused(root: Path, name: str, said: str) -> None:
    _product(root / "shop", "shop-orders")
    _component(root, "shop", artifacts="../../../../shop/compiled_artifacts.json", translator=name)

    assert said in _refused(root)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"artifacts": "a.json", "artifact": "a.json"}, "artifact"),
        ({}, "artifacts"),
        ({"artifacts": "a.json", "translation": {"group": "a"}}, "group"),
    ],
)
def test_unknown_and_missing_keys_are_refused(root: Path, attributes: dict[str, Any], said: str) -> None:
    _component(root, "shop", **attributes)

    assert said in _refused(root)


def test_missing_project_directory_is_reported(root: Path) -> None:
    _product(root / "shop", "shop-orders")
    _component(root, "shop", artifacts="../../../../shop/compiled_artifacts.json", project_dir="../nowhere")

    said = _refused(root)

    assert "nowhere: 1 problem\n  has no dbt_project.yml in it\n    fix: Set `project_dir` to the directory" in said


def test_scaffolded_file_has_paths_below_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster.components.component_scaffolding import scaffold_object

    monkeypatch.chdir(root)
    options = {"artifacts": "shop/compiled_artifacts.json", "environment": "production"}
    scaffold_object(root / "src/ours/defs/shop", _TYPE, json.dumps(options), "yaml", root)

    written = yaml.safe_load((root / "src/ours/defs/shop/defs.yaml").read_text(encoding="utf-8"))
    assert written == {
        "type": _TYPE,
        "attributes": {
            "artifacts": "{{ context.project_root }}/shop/compiled_artifacts.json",
            "environment": "production",
        },
    }
    _product(root / "shop", "shop-orders")
    assert _keys(_load(root)) == {"stg_orders", "orders"}


def test_component_is_not_imported_with_the_package_or_its_code_location() -> None:
    script = (
        "import sys, floe_orchestrator_dagster, floe_orchestrator_dagster.code_location\n"
        "print([name for name in sys.modules if name == 'floe_orchestrator_dagster.component'])"
    )
    assert run_python("-c", script).stdout == "[]\n"

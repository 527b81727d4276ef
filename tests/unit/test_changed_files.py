"""Warnings about files that have changed since a product was compiled, and ``auto_compile``."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from code_locations import reconstruct, serve
from command import invoke
from floe_orchestrator_dagster.code_location import definitions_to_serve
from floe_orchestrator_dagster.errors import SpecError
from floe_orchestrator_dagster.product.compilation import compile_product
from unit.samples import manifest, node, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path

_SPEC: dict[str, Any] = {
    "apiVersion": "floe.dev/v1",
    "kind": "FloeSpec",
    "metadata": {"name": "shop-orders", "version": "1.0.0"},
    "platform": {"manifest": "manifest.yaml"},
    "transforms": [{"name": "stg_orders"}],
}


def _platform(**config: object) -> dict[str, Any]:
    compute = {"type": "duckdb", "config": {"path": "shop.duckdb"}}
    return {
        "apiVersion": "floe.dev/v1",
        "kind": "Manifest",
        "metadata": {"name": "shop-platform", "version": "1.0.0", "owner": "platform"},
        "plugins": {"compute": compute, "orchestrator": {"type": "dagster", "config": config}},
        "observability": {"lineage": {"enabled": False}},
    }


def _write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a compiled product with two dbt models, of which floe.yaml has one."""
    write_project(tmp_path)
    models = (node("stg_orders"), node("orders", depends_on={"nodes": ["model.shop.stg_orders"]}))
    write_json(tmp_path / "target" / "manifest.json", manifest(*models))
    _compile(tmp_path, _SPEC, _platform())
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(tmp_path / "compiled_artifacts.json"))
    monkeypatch.delenv("DAGSTER_IS_DEV_CLI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _compile(directory: Path, spec: object, platform: object) -> None:
    files = _write(directory / "floe.yaml", spec), _write(directory / "manifest.yaml", platform)
    compile_product(*files).to_json_file(directory / "compiled_artifacts.json")


def _warnings(shop: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(invoke("validate", "--json", shop / "compiled_artifacts.json").stdout)[
        "warnings"
    ]
    return found


_COMMAND = "floe platform compile --spec floe.yaml --manifest manifest.yaml --output compiled_artifacts.json"


def test_compiled_files_are_no_warning(shop: Path) -> None:
    assert _warnings(shop) == []


@pytest.mark.parametrize(
    ("file", "content", "changed"),
    [
        ("floe.yaml", {**_SPEC, "transforms": [{"name": "stg_orders"}, {"name": "orders"}]}, "transforms"),
        (
            "floe.yaml",
            {**_SPEC, "metadata": {"name": "shop-orders", "version": "1.1.0"}},
            "metadata.product_version, observability",
        ),
        ("manifest.yaml", _platform(key_prefix=["shop"]), "plugins"),
    ],
)
def test_changed_file_is_a_warning_with_the_command(shop: Path, file: str, content: object, changed: str) -> None:
    _write(shop / file, content)

    [warning] = _warnings(shop)

    assert warning == {
        "file": str(shop / "compiled_artifacts.json"),
        "where": "",
        "what": f"floe.yaml or manifest.yaml has changed since the product was compiled ({changed})",
        "fix": f"Run `{_COMMAND}`.",
    }
    assert f"has changed since the product was compiled ({changed})" in invoke("plan").stdout


@pytest.mark.parametrize(
    "content",
    [
        {**_SPEC, "schedule": {"cron": "@daily"}},
        {**_SPEC, "metadata": {**_SPEC["metadata"], "owner": "shop@example.com", "description": "Orders"}},
        {**_SPEC, "metadata": {**_SPEC["metadata"], "name": "another-product"}},
        {**_SPEC, "platform": {"manifest": "oci://registry.example.com/platform:1.0"}},
    ],
)
def test_change_that_needs_no_compilation_is_no_warning(shop: Path, content: object) -> None:
    _write(shop / "floe.yaml", content)

    assert [warning for warning in _warnings(shop) if "compiled" in warning["what"]] == []


def test_comment_and_a_newer_time_are_no_warning(shop: Path) -> None:
    path = shop / "floe.yaml"
    path.write_text(f"# Orders.\n{path.read_text(encoding='utf-8')}", encoding="utf-8")

    assert _warnings(shop) == []


def test_file_that_no_longer_compiles_is_a_warning(shop: Path) -> None:
    _write(shop / "manifest.yaml", {**_platform(), "metadata": {"name": "shop-platform", "version": "1"}})

    [warning] = _warnings(shop)

    said = "floe.yaml or manifest.yaml has changed since the product was compiled, and no longer compiles"
    assert (warning["where"], warning["what"]) == ("", said)
    assert warning["fix"].startswith("metadata.version: String should match pattern")


def test_code_server_warns_and_the_process_of_a_run_does_not(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(shop / "manifest.yaml", _platform(key_prefix=["shop"]))

    assert serve().has_job("shop_orders")
    assert f"has changed since the product was compiled (plugins). Run `{_COMMAND}`." in caplog.text
    caplog.clear()
    assert reconstruct().has_job("shop_orders")
    assert caplog.text == ""


def test_in_dagster_dev_the_code_location_is_reloaded_afterwards(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _write(shop / "manifest.yaml", _platform(key_prefix=["shop"]))
    later = time.time() + 3600
    os.utime(shop / "target" / "manifest.json", (later, later))
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")

    serve()

    assert f"Run `{_COMMAND}` and load the code location again." in caplog.text


def test_dagster_dev_compiles_if_it_is_asked_to(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _compile(shop, _SPEC, _platform(auto_compile=True))
    compiled = shop / "compiled_artifacts.json"
    before = compiled.read_bytes()
    _write(shop / "manifest.yaml", _platform(auto_compile=True, key_prefix=["shop"]))
    later = time.time() + 3600  # so that dbt need not parse the project for the newer artifacts
    os.utime(shop / "target" / "manifest.json", (later, later))

    serve()
    assert compiled.read_bytes() == before  # not `dagster dev`
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    reconstruct()
    assert compiled.read_bytes() == before  # a run
    repository = serve()

    assert {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()} == {
        "shop/stg_orders",
        "shop/orders",
    }
    assert json.loads(compiled.read_bytes())["plugins"]["orchestrator"]["config"]["key_prefix"] == ["shop"]
    assert sorted(path.name for path in shop.iterdir() if path.name.startswith(".")) == []
    assert _warnings(shop) == []


def test_dagster_dev_does_not_load_what_no_longer_compiles(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _compile(shop, _SPEC, _platform(auto_compile=True))
    _write(shop / "floe.yaml", {**_SPEC, "transforms": []})
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")

    with pytest.raises(SpecError, match=r"floe.yaml: 1 problem\n  transforms: List should have at least 1 item"):
        definitions_to_serve(shop / "compiled_artifacts.json")


def test_product_that_is_not_asked_to_compile_keeps_its_artifacts(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (shop / "compiled_artifacts.json").read_bytes()
    _write(shop / "manifest.yaml", _platform(auto_compile=True))
    later = time.time() + 3600
    os.utime(shop / "target" / "manifest.json", (later, later))
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")

    serve()

    assert (shop / "compiled_artifacts.json").read_bytes() == before

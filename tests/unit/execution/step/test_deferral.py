"""Deferral to the state of another environment: dbt's arguments, and the copy of the state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.deferral import Deferral, step_deferral
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions
from unit.dbt_shop import dbt_shop

if TYPE_CHECKING:
    from pathlib import Path


def _deferral(options: DbtOptions, directory: Path) -> Deferral:
    shop = dbt_shop(directory)
    assert shop.dbt is not None
    return step_deferral(options, shop, shop.dbt.on("duckdb"))


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, []),
        ({"DBT_STATE": "/before"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before", "DBT_STATE": "/older"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before", "DBT_DEFER_STATE": "/other"}, []),
        ({"DBT_STATE": "/before", "DBT_ENGINE_DEFER_STATE": "/other"}, []),
    ],
)
def test_the_state_of_the_environment_is_for_deferral(
    environment: dict[str, str], arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert _deferral(DbtOptions(), tmp_path).arguments(tmp_path, frozenset()) == arguments


def test_the_copy_of_the_state_has_no_table_that_the_run_has_built(tmp_path: Path) -> None:
    nodes = {"model.shop.a": {"name": "a"}, "model.shop.b": {"name": "b"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"metadata": {"x": 1}, "nodes": nodes}), encoding="utf-8")
    deferral = _deferral(DbtOptions(defer=True, state=".", favor_state=True), tmp_path)

    arguments = deferral.arguments(tmp_path / "target", {"model.shop.a", "model.shop.c"})

    assert arguments == ["--defer", "--defer-state", str(tmp_path / "target" / "state"), "--favor-state"]
    written = json.loads((tmp_path / "target" / "state" / "manifest.json").read_text(encoding="utf-8"))
    assert written == {"metadata": {"x": 1}, "nodes": {"model.shop.b": {"name": "b"}}}
    assert deferral.nodes == nodes.keys()


def test_the_favoured_state_of_the_environment_has_no_table_that_the_run_has_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = {"model.shop.a": {"name": "a"}, "model.shop.b": {"name": "b"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"nodes": nodes}), encoding="utf-8")
    for name, value in {"DBT_DEFER": "1", "DBT_ENGINE_FAVOR_STATE": "true", "DBT_STATE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    arguments = _deferral(DbtOptions(), tmp_path / "shop").arguments(tmp_path / "target", {"model.shop.a"})

    assert arguments == ["--defer", "--defer-state", str(tmp_path / "target" / "state"), "--favor-state"]
    written = json.loads((tmp_path / "target" / "state" / "manifest.json").read_text(encoding="utf-8"))
    assert written["nodes"].keys() == {"model.shop.b"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (DbtOptions(defer=True), "defer: no state is known to defer to. Set `state` to a directory, or configure"),
        (DbtOptions(state="x"), "state: it is only used with defer. Set `defer: true`."),
        (DbtOptions(favor_state=True), "favor_state: it is only used with defer. Set `defer: true`."),
        (DbtOptions(defer=True, state="gone"), "is not a directory. Copy the manifest.json of the other"),
        (DbtOptions(defer=True, state="."), "has no manifest.json. Copy the manifest.json of the other"),
        (DbtOptions(defer=True, state="text"), "text/manifest.json' cannot be read: "),
        (
            DbtOptions(defer=True, state="other"),
            "other/manifest.json' is not a manifest of dbt. Copy the manifest.json",
        ),
    ],
)
def test_a_deferral_that_dbt_cannot_do_is_refused(
    options: DbtOptions, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DBT_STATE", "DBT_DEFER_STATE", "DBT_ENGINE_STATE", "DBT_ENGINE_DEFER_STATE"):
        monkeypatch.delenv(name, raising=False)
    for name, content in (("text", "nonsense"), ("other", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(content, encoding="utf-8")

    with pytest.raises(DbtSetupError) as caught:
        _deferral(options, tmp_path)

    assert problem in str(caught.value)

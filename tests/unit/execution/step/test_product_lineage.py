"""How the product's run ends in lineage. Annotations are evaluated in this module: Dagster reads those of its steps."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable

from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.automation.lineage_sensors.sensors import lineage_sensors
from floe_orchestrator_dagster.execution.step.step_lineage import step_lineage
from floe_orchestrator_dagster.product import Product, load_product
from floe_orchestrator_dagster.product.tags import PRODUCT_TAG
from lineage_backend import LineageServer, serving
from openlineage_schemas import assert_valid_json
from unit.samples import contract, manifest, model, node, write_json, write_project


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with serving() as served:
        monkeypatch.setenv("OPENLINEAGE_URL", served.url.removesuffix("/api/v1/lineage"))
        yield served


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def product_in(directory: Path, name: str) -> Product:
    project = write_project(directory / name)
    write_json(project / "target" / "manifest.json", manifest(node("orders", database="shop")))
    content = contract(model("orders"), name=name)
    content["observability"]["lineage"] = True
    return load_product(write_json(project / "compiled_artifacts.json", content))


def step_of(product: Product, *tries: Sequence[dg.AssetCheckResult | Exception]) -> dg.AssetsDefinition:
    """Define a step that emits lineage as one that runs dbt does; its tries yield and raise the given values."""
    asset, name, left = dg.AssetKey([product.identifier, "orders"]), f"{product.identifier}_dbt_build", list(tries)

    @dg.multi_asset(
        name=name,
        specs=[dg.AssetSpec(asset, tags={PRODUCT_TAG: product.name})],
        check_specs=[dg.AssetCheckSpec("usual", asset=asset, blocking=True)],
        retry_policy=dg.RetryPolicy(max_retries=len(left) - 1) if len(left) > 1 else None,
    )
    def step(context: dg.AssetExecutionContext) -> Iterator[Any]:
        assert product.dbt is not None
        with step_lineage(context.op_execution_context, product, product.dbt, None, [name]):
            yield dg.Output(None, output_name=asset.to_python_identifier())
            for outcome in left.pop(0):
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome

    return step


def emitted(backend: LineageServer) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in backend.events]


def run_of(
    instance: dg.DagsterInstance,
    *steps: dg.AssetsDefinition,
    select: Sequence[str] = ("*",),
    products: Sequence[Product] = (),
) -> tuple[dg.Definitions, str]:
    """Run what is selected of a code location with these steps, and with the sensors of these products."""
    jobs = [dg.define_asset_job("everything", list(select))]
    sensors = [sensor for product in products for sensor in sensors_of(product)]
    location = dg.Definitions(assets=steps, jobs=jobs, sensors=sensors, executor=dg.in_process_executor)
    job = location.resolve_job_def("everything")
    return location, job.execute_in_process(instance=instance, raise_on_error=False).run_id


def sensors_of(product: Product) -> list[dg.SensorDefinition]:
    return lineage_sensors(ProductTranslator(product), [f"{product.identifier}_dbt_build"])


def evaluate(location: dg.Definitions, instance: dg.DagsterInstance, run: dg.DagsterRun, product: Product) -> None:
    """Evaluate the product's sensor of the run's status, as the daemon does."""
    name = f"{product.identifier}_lineage_{run.status.value.lower()}"
    [sensor] = [one for one in sensors_of(product) if one.name == name]
    kinds = {dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE}
    [record] = instance.all_logs(run.run_id, of_type=kinds)
    repository = location.get_repository_def()
    sensor(dg.RunStatusSensorContext(name, run, record.dagster_event, instance, repository_def=repository))


@pytest.mark.parametrize(
    ("severity", "end"), [(dg.AssetCheckSeverity.ERROR, "FAIL"), (dg.AssetCheckSeverity.WARN, "COMPLETE")]
)
def test_a_blocking_check_that_fails_dagsters_step_fails_the_products_run(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    backend: LineageServer,
    severity: dg.AssetCheckSeverity,
    end: str,
) -> None:
    found = dg.AssetCheckResult(passed=False, severity=severity)

    _, run_id = run_of(instance, step_of(product_in(tmp_path, "shop"), [found]))

    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.is_failure == (end == "FAIL")
    assert_valid_json(backend.events)
    assert emitted(backend) == [("shop", "START"), ("shop", end)]
    why = backend.events[-1]["run"]["facets"].get("errorMessage", {}).get("message")
    assert why == ("blocking checks failed: shop/orders:usual" if end == "FAIL" else None)


def test_a_check_that_failed_in_an_earlier_try_does_not_count(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    first: list[dg.AssetCheckResult | Exception] = [dg.AssetCheckResult(passed=False), ValueError("dbt was killed")]

    run_of(instance, step_of(product_in(tmp_path, "shop"), first, [dg.AssetCheckResult(passed=True)]))

    assert emitted(backend) == [("shop", "START"), ("shop", "COMPLETE")]


def test_each_of_two_products_of_one_run_begins_and_ends(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    shop, stock = (product_in(tmp_path, name) for name in ("shop", "stock"))
    good, bad = dg.AssetCheckResult(passed=True), ValueError("no such table")

    location, run_id = run_of(instance, step_of(shop, [good]), step_of(stock, [bad]))

    ends = [("shop", "START"), ("shop", "COMPLETE"), ("stock", "START"), ("stock", "FAIL")]
    assert sorted(emitted(backend)) == sorted(ends)

    run = instance.get_run_by_id(run_id)
    assert run is not None
    for product in (shop, stock):
        evaluate(location, instance, run, product)
    assert len(backend.events) == len(ends)  # no run is open, and each product has its own events


@pytest.mark.parametrize(
    ("select", "products"),
    [(["stock/orders", "export"], ["stock"]), (["export"], ["shop"]), (["*"], ["shop", "stock"])],
)
def test_an_asset_of_no_product_is_told_once_by_a_product_of_the_run(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer, select: list[str], products: list[str]
) -> None:
    @dg.asset
    def export() -> None: ...

    shop, stock = (product_in(tmp_path, name) for name in ("shop", "stock"))
    steps = [step_of(product, [dg.AssetCheckResult(passed=True)]) for product in (shop, stock)]

    location, run_id = run_of(instance, *steps, export, select=select, products=[shop, stock])
    run = instance.get_run_by_id(run_id)
    assert run is not None
    for product in (stock, shop):
        evaluate(location, instance, run, product)

    assert emitted(backend).count(("export", "START")) == 1
    [end] = [event for event in backend.events if (event["job"]["name"], event["eventType"]) == ("export", "COMPLETE")]
    assert end["run"]["facets"]["parent"]["job"]["name"] == products[0]
    assert {name for name, _ in emitted(backend)} == {"export", *products}


def test_an_end_whose_tag_another_process_overwrote_is_not_told_again(
    tmp_path: Path, instance: dg.DagsterInstance, backend: LineageServer
) -> None:
    shop = product_in(tmp_path, "shop")
    location, run_id = run_of(instance, step_of(shop, [dg.AssetCheckResult(passed=True)]))
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert "floe/lineage_product.shop" in run.tags
    # The run's record after another process, which read it before the end was emitted, has added a tag.
    overwritten = run.with_tags({})
    assert isinstance(instance.run_storage, SqlRunStorage)
    with instance.run_storage.connect() as connection:
        connection.execute(RunsTable.update().values(run_body=dg.serialize_value(overwritten)))

    evaluate(location, instance, overwritten, shop)

    assert emitted(backend) == [("shop", "START"), ("shop", "COMPLETE")]

"""Lineage of a step with nodes whose events cannot be created in full.

Annotations are evaluated in this module: Dagster reads those of the step.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.step.step_lineage import step_lineage
from floe_orchestrator_dagster.product import Product, load_product
from lineage_backend import LineageServer, serving
from openlineage_schemas import assert_valid_json
from unit.lineage.sample_run import node_result, node_start
from unit.samples import contract, manifest, model, node, write_json, write_project

NAMES = ("odd", "odd_at_the_end", "orders", "unfinished")


@pytest.fixture
def backend() -> Iterator[LineageServer]:
    with serving() as served:
        yield served


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def product_in(directory: Path, backend: LineageServer, *, strict: bool) -> Product:
    """Load a product, and change two of its nodes so that their events cannot be created."""
    project = write_project(directory / "shop")
    write_json(
        project / "target" / "manifest.json",
        manifest(*(node(name, database="shop", path=f"{name}.sql") for name in NAMES)),
    )
    config = {"lineage": {"spool_dir": str(directory / "spool"), "strict": strict}}
    content = contract(model("orders"), config=config)
    content["observability"] |= {"lineage": True, "lineage_endpoint": backend.url}
    product = load_product(write_json(project / "compiled_artifacts.json", content))
    assert product.dbt is not None
    nodes = dict(product.dbt.manifest.content["nodes"])
    nodes["model.shop.odd"] = {**nodes["model.shop.odd"], "meta": "a text"}
    nodes["model.shop.odd_at_the_end"] = {**nodes["model.shop.odd_at_the_end"], "path": None}
    odd = replace(product.dbt.manifest, content={**product.dbt.manifest.content, "nodes": nodes})
    return replace(product, dbt=replace(product.dbt, manifest=odd))


def run(product: Product, instance: dg.DagsterInstance, *, fails: bool = False) -> dg.ExecuteInProcessResult:
    @dg.asset(name="orders")
    def step(context: dg.AssetExecutionContext) -> None:
        assert product.dbt is not None
        step_context = context.op_execution_context
        target = new_target(product.dbt, step_context.op.name, step_context.run.run_id)
        with step_lineage(step_context, product, product.dbt, target, ["orders"]) as lineage:
            assert lineage is not None
            for name in NAMES:
                lineage.node_started(node_start(f"model.shop.{name}"))
            for name in NAMES[:3]:
                lineage.node_ended(node_result("success", f"model.shop.{name}", columns={"id": "INTEGER"}))
            if fails:
                raise ValueError("dbt is gone")

    return dg.materialize([step], instance=instance, raise_on_error=False)


def states(backend: LineageServer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in backend.events:
        found.setdefault(event["job"]["name"].removeprefix("model.shop."), []).append(event["eventType"])
    return found


def logged(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id) if entry.dagster_event is None]


@pytest.mark.parametrize("fails", [False, True])
def test_every_node_starts_and_ends_and_the_first_odd_one_is_named(
    tmp_path: Path, backend: LineageServer, instance: dg.DagsterInstance, *, fails: bool
) -> None:
    product = product_in(tmp_path, backend, strict=False)

    result = run(product, instance, fails=fails)

    assert result.success is not fails
    assert_valid_json(backend.events)
    assert states(backend) == {
        "shop-orders": ["START", "FAIL" if fails else "COMPLETE"],
        "odd": ["START", "COMPLETE"],
        "odd_at_the_end": ["START", "COMPLETE"],
        "orders": ["START", "COMPLETE"],
        "unfinished": ["START", "ABORT"],
    }
    [end] = [one for one in backend.events if one["job"]["name"].endswith("at_the_end") and one["eventType"] != "START"]
    assert [dataset["name"] for dataset in end["outputs"]] == ["shop.main.odd_at_the_end"]  # as its START said
    warnings = [line for line in logged(instance, result.run_id) if "lineage" in line.lower()]
    assert "the event of model.shop.odd is incomplete (TypeError: " in warnings[0]
    assert warnings[1] == "Lineage: 2 more events are incomplete or missing."
    assert list((tmp_path / "spool" / "shop-orders").glob("*.open")) == []


def test_a_strict_step_fails_and_its_lineage_ends_all_the_same(
    tmp_path: Path, backend: LineageServer, instance: dg.DagsterInstance
) -> None:
    result = run(product_in(tmp_path, backend, strict=True), instance)

    assert not result.success
    assert states(backend) == {"shop-orders": ["START", "FAIL"], "odd": ["START", "ABORT"]}
    [failure] = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert "the event of model.shop.odd is incomplete" in str(failure.dagster_event)

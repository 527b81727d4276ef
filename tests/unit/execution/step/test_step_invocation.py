"""Steps with an engine that reports written values: results, run log and column lineage.

Annotations are evaluated in this module: Dagster reads those of the step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from floe_orchestrator_dagster.errors import DbtNodesError
from floe_orchestrator_dagster.execution.dbt.node_result import (
    DbtWarning,
    EngineValue,
    NodeCount,
    NodeResult,
    NodeStart,
    NothingMatched,
)
from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.step.step_invocation import StepInvocation
from floe_orchestrator_dagster.execution.step.step_lineage import step_lineage
from floe_orchestrator_dagster.product import Product, load_product
from unit.samples import Json, contract, manifest, model, node, profiles, write_json, write_project


@dataclass
class WrittenRun:
    """A run of dbt that reports the values of a test."""

    reported: Sequence[EngineValue]
    stopped: bool = False

    def values(self, meanwhile: Callable[[], None] = print) -> Iterator[EngineValue]:
        for value in self.reported:
            meanwhile()
            yield value

    def require_end(self, running: Sequence[str]) -> None:
        assert list(running) == []

    @property
    def is_successful(self) -> bool:
        return not any(isinstance(value, NodeResult) and value.has_failed for value in self.reported)

    def stop(self) -> None:
        self.stopped = True


@dataclass
class WrittenEngine:
    """An engine of a kind that this package does not know. It records the arguments of its starts."""

    run: WrittenRun
    started: list[tuple[str, ...]] = field(default_factory=list)

    @contextmanager
    def start(
        self,
        arguments: Sequence[str],
        target: Path,
        environment: Mapping[str, str] | None = None,
        *,
        needs_manifest: bool = False,
    ) -> Iterator[WrittenRun]:
        assert target.is_dir()
        assert environment == {}
        assert not needs_manifest
        self.started.append(tuple(arguments))
        yield self.run
        self.run.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Product:
    project = write_project(tmp_path / "shop")
    write_json(project / "target" / "manifest.json", manifest(node("orders")))
    return load_product(write_json(project / "compiled_artifacts.json", contract(model("orders"))))


def ended(name: str, status: str, message: str = "") -> tuple[NodeStart, NodeResult]:
    result = NodeResult(f"model.shop.{name}", name, "model", "table", status, message, seconds=0.25)
    return result.start, result


def run_step(shop: Product, *values: EngineValue) -> tuple[list[str], list[str], WrittenEngine, StepInvocation]:
    """Run a step with an engine; returns its results, its log, the engine and the invocation."""
    engine = WrittenEngine(WrittenRun(values))
    results: list[str] = []
    invocations: list[StepInvocation] = []

    @dg.asset(name="orders")
    def step(context: dg.AssetExecutionContext) -> None:
        assert shop.dbt is not None
        op_context = context.op_execution_context
        target = new_target(shop.dbt, "orders", context.run.run_id)
        invocation = StepInvocation(op_context, engine, shop.dbt, shop.config.dbt, target)
        invocations.append(invocation)
        try:
            results.extend(f"{result.name} {result.ending}" for result in invocation.run(["build"]))
        except DbtNodesError as error:
            results.append(str(error).splitlines()[0].partition(": ")[2])

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([step], instance=instance)
        log = [entry.user_message for entry in instance.all_logs(run.run_id) if entry.dagster_event is None]
    return results, log, engine, invocations[0]


def test_results_of_any_engine_are_yielded_and_logged(shop: Product) -> None:
    values = (NodeCount(2), *ended("orders", "reused"), DbtWarning("old syntax"), *ended("stores", "success"))

    results, log, engine, _ = run_step(shop, *values)

    assert results == ["orders succeeded", "stores succeeded"]
    assert engine.started == [("build",)]
    assert engine.run.stopped
    assert sorted("\n".join(log).splitlines()) == [
        "1/2 reused model orders, 0.25 s",
        "2/2 success model stores, 0.25 s",
        "dbt: old syntax",
    ]


def test_failed_node_of_any_engine_fails_the_step(shop: Product) -> None:
    values = (
        *ended("orders", "error", "no such column"),
        *ended("stores", "success"),
        NothingMatched("fqn:gone +fqn:old"),
    )

    results, log, _, invocation = run_step(shop, *values)

    assert results == ["orders failed", "stores succeeded", "1 failed, 1 succeeded"]
    assert log[0] == "1 error model orders, 0.25 s\nno such column"
    assert invocation.unmatched == {"fqn:gone", "+fqn:old"}


def lineage_shop(directory: Path, raw: Json) -> Product:
    """Load a product with lineage and two targets; ``raw`` replaces fields of its first model after the load."""
    project = write_project(directory / "shop")
    reads = {"nodes": ["model.shop.raw"], "macros": []}
    nodes = (node("raw", path="raw.sql", relation_name='"shop"."main"."raw"'), node("orders", depends_on=reads))
    write_json(project / "target" / "manifest.json", manifest(*nodes))
    outputs = profiles()
    outputs["shop-orders"]["outputs"]["prod"] = outputs["shop-orders"]["outputs"]["dev"]
    content = contract(model("orders"), config={"lineage": {"spool_dir": str(directory)}}, dbt_profiles=outputs)
    content["observability"] |= {"lineage": True, "lineage_endpoint": "http://127.0.0.1:9"}
    shop = load_product(write_json(project / "compiled_artifacts.json", content))
    assert shop.dbt is not None
    known = dict(shop.dbt.manifest.content["nodes"])
    known["model.shop.raw"] = {**known["model.shop.raw"], **raw}
    whole = replace(shop.dbt.manifest, content={**shop.dbt.manifest.content, "nodes": known})
    return replace(shop, dbt=replace(shop.dbt, manifest=whole))


@pytest.mark.parametrize(
    ("target_name", "raw", "warning"),
    [
        # Lineage reads the manifest of another target, which dbt has written.
        ("prod", {}, "no event could be created (ManifestError"),
        ("dev", {"meta": "text"}, "the event of model.shop.raw is incomplete (TypeError"),
    ],
)
def test_column_lineage_is_recorded_if_events_cannot_describe_the_tables(
    tmp_path: Path, target_name: str, raw: Json, warning: str
) -> None:
    shop = lineage_shop(tmp_path, raw)
    _, first = ended("raw", "success")
    _, orders = ended("orders", "success")
    orders = replace(orders, compiled_code='select id as order_id from "shop"."main"."raw"')
    results = (replace(first, compiled_code="select 1 as id", columns={"id": "INTEGER"}), orders)
    engine = WrittenEngine(WrittenRun([value for result in results for value in (result.start, result)]))
    found: dict[str, dict[str, list[str]]] = {}

    @dg.asset(name="orders")
    def step(context: dg.AssetExecutionContext) -> None:
        assert shop.dbt is not None
        dbt = replace(shop.dbt, profile=shop.dbt.profile.on_target(target_name))
        op_context = context.op_execution_context
        target = new_target(dbt, "orders", context.run.run_id)
        (target.path / "manifest.json").write_text("{")
        lineage = partial(step_lineage, op_context, shop, dbt, target, ["orders"], None)
        known, whole = shop.dbt.manifest.content["nodes"], shop.dbt.manifest
        invocation = StepInvocation(
            op_context, engine, dbt, shop.config.dbt, target, nodes=known, lineage=lineage, manifest=whole
        )
        for result in invocation.run(["build"]):
            columns = invocation.column_lineage(result)
            if columns is not None and columns.fields:
                found[result.name] = {
                    column: [used.unique_id for used in read] for column, read in columns.fields.items()
                }

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([step], instance=instance)
        log = [entry.user_message for entry in instance.all_logs(run.run_id) if entry.dagster_event is None]

    assert sum(warning in line for line in log) == 1
    assert found == {"orders": {"order_id": ["model.shop.raw"]}}

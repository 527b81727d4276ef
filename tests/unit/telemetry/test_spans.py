"""Spans of operations, with floe's attributes and errors, without secrets, and without cost when not recorded."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from floe_core.telemetry import conventions
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from floe_orchestrator_dagster import DagsterOrchestratorPlugin, telemetry
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.connection import check
from floe_orchestrator_dagster.errors import ArtifactsError, ConfigError
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
from hostile import free_port, serving
from processes import run_python
from recording import Recording, recording
from unit.samples import contract, model, validated, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no span may show
_SHOP = {
    "floe.namespace": "sales",
    "floe.product.name": "shop-orders",
    "floe.product.version": "1.2.0",
    "floe.mode": "dev",
}
_UNCONFIGURED = """
import json, sys, time
import floe_orchestrator_dagster
from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
plugin = floe_orchestrator_dagster.DagsterOrchestratorPlugin()
started = time.process_time()
for _ in range(100):
    with telemetry.operation("load"), dbt_build({}, "run") as build:
        build.record(NodeResult("model.shop.a", "a", "model", "table", "success"))
        assert telemetry.trace_environment() == {} == build.environment
elapsed = time.process_time() - started
plugin.shutdown()
from floe_orchestrator_dagster.telemetry.export import export_as_configured
export_as_configured(None)
loaded = sorted(name for name in sys.modules if name.startswith(("opentelemetry", "grpc")))
print(json.dumps([elapsed / 100, loaded]))
"""


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as kept:
        yield kept


def test_attributes_follow_floes_conventions() -> None:
    attributes = telemetry.product_attributes(validated(model("a")).observability.telemetry)

    of_floe = conventions.FloeSpanAttributes(
        namespace="sales", product_name="shop-orders", product_version="1.2.0", mode="dev"
    )
    assert attributes == of_floe.to_otel_dict() == _SHOP


@pytest.mark.parametrize(
    ("environment", "mode"), [("production", "prod"), ("staging", "staging"), ("", "dev"), ("elsewhere", "dev")]
)
def test_mode_comes_from_floe_env(monkeypatch: pytest.MonkeyPatch, environment: str, mode: str) -> None:
    monkeypatch.setenv("FLOE_ENV", environment)

    assert telemetry.product_attributes(validated(model("a")).observability.telemetry)["floe.mode"] == mode


def test_load_of_a_product_is_a_span_around_its_translation(recorded: Recording, tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("a"), model("b", "a")))

    definitions_from_file(path)

    load, translate = recorded.span("load"), recorded.span("translate")
    assert dict(load.attributes or {}) == _SHOP
    counts = {"assets": 2, "checks": 0, "jobs": 1, "schedules": 0, "sensors": 0}
    assert dict(translate.attributes or {}) == {**_SHOP, **{f"floe.dagster.{kind}": n for kind, n in counts.items()}}
    assert translate.parent is not None
    assert translate.parent.span_id == load.context.span_id
    assert (load.start_time or 0) < (translate.start_time or 0)
    assert load.status.status_code is StatusCode.UNSET


def test_plugin_that_makes_definitions_is_traced(recorded: Recording) -> None:
    DagsterOrchestratorPlugin().create_definitions(contract(model("a")))

    assert recorded.span("load").context.trace_id == recorded.span("translate").context.trace_id


def test_product_that_cannot_be_read_is_a_span_with_the_error(recorded: Recording, tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"

    with pytest.raises(ArtifactsError):
        definitions_from_file(path)

    [span] = recorded.spans
    assert (span.name, span.status.status_code) == ("floe.orchestrator.dagster.load", StatusCode.ERROR)
    assert dict(span.attributes or {})["exception.type"] == "ArtifactsError"
    assert "the file does not exist" in str(dict(span.attributes or {})["exception.message"])
    assert dict(span.attributes or {})["floe.namespace"] == "default"
    assert span.events == ()


def test_product_that_cannot_be_translated_fails_both_spans(recorded: Recording, tmp_path: Path) -> None:
    content = contract(model("a"), config={"jobs": [{"name": "nightly", "select": "tag:nightly"}]})
    path = write_json(tmp_path / "compiled_artifacts.json", content)

    with pytest.raises(ConfigError, match="cannot be resolved"):
        definitions_from_file(path)

    assert {span.name.rpartition(".")[2]: span.status.status_code for span in recorded.spans} == {
        "load": StatusCode.ERROR,
        "translate": StatusCode.ERROR,
    }


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"postgresql://floe:{_SECRET}@db and", "postgresql://***@db and"),
        (f"password={_SECRET} refused", "password=*** refused"),
        (f"sent Bearer {_SECRET} to it", "sent Bearer *** to it"),
        (f"header 'authorization: Basic {_SECRET}'", "header 'authorization: ***'"),
    ],
)
def test_secrets_in_an_error_are_not_recorded(recorded: Recording, said: str, shown: str) -> None:
    with pytest.raises(RuntimeError), telemetry.operation("load"):
        raise RuntimeError(said)

    assert recorded.span("load").status.description == shown
    assert _SECRET not in recorded.span("load").to_json()


def test_connection_check_is_a_span_with_its_result(recorded: Recording) -> None:
    with serving(b'{"data": {"version": "1.13.27"}}') as server:
        check(server.url.replace("http://", f"http://user:{_SECRET}@"))

    span = recorded.span("connection.check")
    assert dict(span.attributes or {}) == {
        "floe.namespace": "default",
        "server.address": f"{server.url}/",
        "dagster.version": "1.13.27",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_connection_check_that_fails_is_an_error_span(recorded: Recording) -> None:
    check(f"http://user:{_SECRET}@127.0.0.1:{free_port()}")

    span = recorded.span("connection.check")
    assert span.status.status_code is StatusCode.ERROR
    assert str(span.status.description).startswith("connection refused.")
    assert _SECRET not in span.to_json()


def test_every_public_operation_of_the_plugin_is_a_span(recorded: Recording, tmp_path: Path) -> None:
    from floe_core.lineage import RunState

    plugin = DagsterOrchestratorPlugin()
    plugin.create_assets_from_transforms([])
    plugin.get_helm_values()
    plugin.get_resource_requirements("small")
    plugin.schedule_job("shop_orders", "0 6 * * *", "UTC")
    plugin.generate_entry_point_code("shop-orders", str(tmp_path))
    plugin.emit_lineage_event(RunState.START, "shop_orders")
    plugin.health_check()

    assert [span.name.removeprefix("floe.orchestrator.dagster.") for span in recorded.spans] == [
        "translate",
        "helm_values",
        "resource_requirements",
        "schedule_job",
        "generate_entry_point_code",
        "emit_lineage_event",
        "health_check",
    ]
    assert {dict(span.attributes or {})["floe.namespace"] for span in recorded.spans} == {"default"}
    assert {span.instrumentation_scope.name for span in recorded.spans if span.instrumentation_scope} == {
        plugin.tracer_name
    }


def test_span_is_a_child_of_the_current_span(recorded: Recording) -> None:
    with trace.get_tracer("somebody").start_as_current_span("theirs") as theirs, telemetry.operation("load"):
        pass

    parent = recorded.span("load").parent
    assert parent is not None
    assert parent.span_id == theirs.get_span_context().span_id


def test_span_belongs_to_the_trace_of_the_parent_process(recorded: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace_id}-{span_id}-01")

    with telemetry.operation("load"):
        pass

    span = recorded.span("load")
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (trace_id, span_id)


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-00"])
def test_malformed_traceparent_is_ignored(recorded: Recording, monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    monkeypatch.setenv("TRACEPARENT", parent)

    with telemetry.operation("load"):
        pass

    assert recorded.span("load").parent is None


def test_trace_is_propagated_to_a_process_through_its_environment(recorded: Recording) -> None:
    with telemetry.operation("load"):
        environment = telemetry.trace_environment()

    context = recorded.span("load").context
    assert environment == {
        "TRACEPARENT": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    }
    assert telemetry.trace_environment() == {}


def test_nothing_configured_imports_nothing_and_takes_no_time() -> None:
    seconds, loaded = json.loads(run_python("-W", "error", "-c", _UNCONFIGURED).stdout)

    assert loaded == []
    assert seconds < 0.001


def test_nothing_recorded_takes_no_time() -> None:
    started = time.process_time()
    for _ in range(100):
        with telemetry.operation("load", _SHOP), dbt_build(_SHOP, "run") as build:
            build.record(NodeResult("model.shop.a", "a", "model", "table", "success"))
    elapsed = time.process_time() - started

    assert elapsed / 100 < 0.001

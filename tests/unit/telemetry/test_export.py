"""Export of spans and metrics by the operator's variables or the product's settings; none without either."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector import collecting_over_grpc, collecting_over_http
from floe_orchestrator_dagster.telemetry.export import Destination, find_destination
from hostile import free_port, serving, serving_bytes
from processes import floe_dagster, run_python
from unit.samples import contract, model, validated, write_json

if TYPE_CHECKING:
    from floe_core.schemas.telemetry import TelemetryConfig

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# A process as Dagster's: it loads a product, builds something, and ends without saying goodbye.
_BUILD = """
with dbt_build({}, "a-run") as build:
    build.record(NodeResult("model.shop.a", "a", "model", "table", "success", seconds=1))
"""
_IMPORTS = """
import sys
from floe_orchestrator_dagster import telemetry
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
"""
_RUN = f"""{_IMPORTS}
from floe_orchestrator_dagster import load_product_definitions
load_product_definitions("shop-orders", sys.argv[1])
{_BUILD}
import os
os._exit(0)
"""
# The same without Dagster, which takes seconds to import.
_LOAD = f"""{_IMPORTS}
from pathlib import Path
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.telemetry.export import export_as_configured
with telemetry.load(export_as_configured) as set_product:
    set_product(load_product(Path(sys.argv[1]) / "compiled_artifacts.json").artifacts.observability.telemetry)
"""
_LIGHT_RUN = _LOAD + _BUILD
# It prints the duration of two builds and of the process's end. The first registered function is called last.
_HELD_UP = f"""
import atexit, time
atexit.register(lambda: print(time.monotonic() - started))
{_LOAD}
started = time.monotonic()
{_BUILD}{_BUILD}"""
# The collector comes back after a build that could not be sent; once it has answered, the next build is waited for.
_COMES_BACK = f"""
import time
sys_path = {str(Path(__file__).parents[2])!r}
{_LIGHT_RUN.replace("{", "{{").replace("}", "}}")}
sys.path.append(sys_path)
from collector import collecting_over_http
with collecting_over_http({{port}}) as collector:
    for _ in range(2000):
        if any(name.endswith(".again") for name in collector.spans):
            break
        with telemetry.operation("again"):
            time.sleep(0.05)
    collector.requests.clear()
    with telemetry.operation("again"), dbt_build({{{{}}}}, "a-run"):
        pass
    print(sorted({{{{*collector.spans}}}}))
"""
_OURS = {f"floe.orchestrator.dagster.{name}" for name in ("load", "build", "node")}


def _telemetry(endpoint: str, **changes: object) -> dict[str, Any]:
    observability: dict[str, Any] = contract()["observability"]
    return {**observability, "telemetry": {**observability["telemetry"], "otlp_endpoint": endpoint, **changes}}


def _config(endpoint: str = "http://localhost:4317", **changes: object) -> TelemetryConfig:
    return validated(model("a"), observability=_telemetry(endpoint, **changes)).observability.telemetry


def _run(program: str, directory: Path, endpoint: str = "http://localhost:4317", **environment: str) -> str:
    """Run a program on a product that names a collector; return its output."""
    content = contract(model("a"), observability=_telemetry(endpoint, otlp_protocol="http"))
    write_json(directory / "compiled_artifacts.json", content)
    result = run_python("-c", program, str(directory), check=True, **environment)
    return result.stdout + result.stderr


# --- where ----------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_without_configuration() -> None:
    assert find_destination("traces", None) is None
    assert find_destination("metrics", _config()) is None


def test_endpoint_of_the_product_is_used_with_its_protocol() -> None:
    assert find_destination("traces", _config("http://otel:4317")) == Destination("traces", "grpc", "http://otel:4317")
    assert find_destination("metrics", _config("http://otel:4318", otlp_protocol="http")) == Destination(
        "metrics", "http/protobuf", "http://otel:4318"
    )


@pytest.mark.parametrize("variable", [_ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_endpoint_of_the_operator_takes_precedence(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://theirs:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")

    assert find_destination("traces", _config("http://otel:4317")) == Destination("traces", "http/protobuf", None)
    assert find_destination("traces", None) == Destination("traces", "http/protobuf", None)


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "console"}],
)
def test_operator_can_disable_telemetry(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in {_ENDPOINT: "http://theirs:4317", **environment}.items():
        monkeypatch.setenv(name, value)

    assert find_destination("traces", _config("http://otel:4317")) is None


def test_product_can_disable_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_ENDPOINT, "http://theirs:4317")

    assert find_destination("traces", _config("http://otel:4317", enabled=False)) is None


def test_exporter_without_an_endpoint_uses_the_sdks_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")

    assert find_destination("metrics", None) == Destination("metrics", "grpc", None)
    assert find_destination("traces", None) is None


# --- what arrives ---------------------------------------------------------------------------------------------------


def test_collector_of_the_operator_gets_spans_and_metrics_of_a_run(tmp_path: Path) -> None:
    with collecting_over_http() as collector:
        said = _run(
            _RUN,
            tmp_path,
            "http://127.0.0.1:1",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_HEADERS="x-api-key=hunter2",
            OTEL_SERVICE_NAME="theirs",
            OTEL_RESOURCE_ATTRIBUTES="team=shop,floe.mode=prod",
        )

    assert said == ""
    assert set(collector.spans) == _OURS | {"floe.orchestrator.dagster.translate"}
    assert collector.metrics == {"floe.orchestrator.dagster.nodes", "floe.orchestrator.dagster.node.duration"}
    assert {headers["x-api-key"] for headers in collector.headers} == {"hunter2"}
    service = collector.services[0]
    assert (service["service.name"], service["team"], service["floe.mode"]) == ("theirs", "shop", "prod")
    assert service["floe.product.name"] == "shop-orders"


def test_collector_of_the_product_is_used_without_an_operators_one(tmp_path: Path) -> None:
    with collecting_over_http() as collector:
        said = _run(_LIGHT_RUN, tmp_path, collector.url, FLOE_ENV="dev")

    assert said == ""
    assert set(collector.spans) == _OURS
    assert collector.services[0]["service.name"] == "shop-orders"
    assert collector.spans["floe.orchestrator.dagster.load"]["floe.namespace"] == "sales"


def test_collector_over_grpc_gets_spans_and_metrics() -> None:
    with collecting_over_grpc() as collector, serving(b'{"data": {"version": "1.13.27"}}') as server:
        floe_dagster("check", server.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)

    assert set(collector.spans) == {"floe.orchestrator.dagster.connection.check"}
    assert collector.services[0]["service.name"] == "floe-dagster"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("collector", ["refuses", "is silent"])
def test_collector_that_is_down_is_one_warning_and_one_bounded_wait(
    tmp_path: Path, collector: str, protocol: str
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if collector == "is silent":
            server.listen()
        said = _run(
            _HELD_UP,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="60",  # the SDK's own flush and shutdown would take minutes
        )

    held_up, line = said.splitlines()
    assert line.startswith("OpenTelemetry: the collector does not accept spans and metrics (")
    assert line.endswith("Correct the endpoint, or set OTEL_SDK_DISABLED=true.")
    assert float(held_up) < 10  # 1.5 where nothing else runs


def test_collector_that_repeats_the_request_shows_no_credential(tmp_path: Path) -> None:
    # The exporter logs the reason phrase.
    said_by_it = b"unknown tenant a-key-of-ours, b0k2 or cGFzc3dvcmQtb2Ytb3Vycw=="
    answer = b"HTTP/1.1 403 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % said_by_it
    with serving_bytes(answer) as server:
        said = _run(
            _LIGHT_RUN,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=server.url.replace("//", "//user:password-of-ours@"),
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=a-key-of-ours,x-other=b0k2",
        )

    assert "unknown tenant ***, *** or ***" in said
    assert "password-of-ours" not in said


def test_collector_that_is_available_again_gets_new_signals(tmp_path: Path) -> None:
    port = free_port()
    environment = {_ENDPOINT: f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}

    said = _run(_COMES_BACK.format(port=port), tmp_path, OTEL_BSP_SCHEDULE_DELAY="100", **environment)

    assert said.splitlines()[0] == "['floe.orchestrator.dagster.again', 'floe.orchestrator.dagster.build']"


def test_existing_providers_are_kept() -> None:
    theirs = """
import json, os
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
provider, meters = TracerProvider(), MeterProvider()
trace.set_tracer_provider(provider)
metrics.set_meter_provider(meters)
before = dict(os.environ)
from floe_orchestrator_dagster.telemetry.export import export_as_configured
export_as_configured(None)
same = trace.get_tracer_provider() is provider and metrics.get_meter_provider() is meters
print(json.dumps([same, dict(os.environ) == before]))
"""
    result = run_python("-c", theirs, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")

    assert json.loads(result.stdout) == [True, True]
    assert result.stderr == ""

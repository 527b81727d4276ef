"""Lineage methods of the plugin, with a local backend."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from floe_core.lineage import LineageDataset, LineageEmitter, RunState
from openlineage.client import facet_v2
from openlineage.client.facet_v2 import (
    data_quality_metrics_input_dataset,
    documentation_job,
    error_message_run,
    nominal_time_run,
    output_statistics_output_dataset,
    schema_dataset,
)

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.events.floe_events import _client_schema
from lineage_backend import free_port, serving
from processes import run_python
from unit.samples import Json, contract, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# base_subset_dataset is the base class of input and output subsets, not a facet.
_FACETS = [name for name in dir(facet_v2) if name.endswith(("_dataset", "_job", "_run")) and "base_" not in name]
INPUTS = [
    LineageDataset(
        namespace="duckdb://shop",
        name="shop.main.raw_orders",
        facets={
            "schema": {"fields": [{"name": "id", "type": "INTEGER"}]},
            "dataQualityMetrics": {"rowCount": 5, "columnMetrics": {}},
        },
    )
]
OUTPUTS = [
    LineageDataset(namespace="duckdb://shop", name="shop.main.orders", facets={"outputStatistics": {"rowCount": 5}})
]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterOrchestratorPlugin]:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    plugin = DagsterOrchestratorPlugin()
    yield plugin
    plugin.shutdown()


def artifacts(endpoint: str, config: Json | None = None) -> Json:
    content = contract(model("a"), config=config)
    content["observability"] |= {"lineage": True, "lineage_endpoint": endpoint, "lineage_namespace": "sales"}
    return content


def emit(plugin: DagsterOrchestratorPlugin, **changes: Any) -> uuid.UUID:  # noqa: ANN401  # any argument
    return plugin.emit_lineage_event(RunState.COMPLETE, "load_orders", **changes)


def test_event_is_sent_with_the_callers_datasets_and_facets(plugin: DagsterOrchestratorPlugin) -> None:
    run_id = uuid.UUID("01941f29-7c00-7000-8000-000000000001")
    with serving() as backend:
        plugin.create_definitions(artifacts(backend.url))
        returned = emit(
            plugin,
            job_namespace="etl",
            run_id=run_id,
            inputs=INPUTS,
            outputs=OUTPUTS,
            run_facets={"nominalTime": {"nominalStartTime": "2026-03-01T00:00:00Z"}},
            job_facets={"documentation": {"description": "Loads orders."}},
            producer="https://example.com/loader",
        )
        plugin.shutdown()

    [event] = backend.events
    producer = "https://example.com/loader"
    classes: dict[str, Any] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet,
        "documentation": documentation_job.DocumentationJobFacet,
        "schema": schema_dataset.SchemaDatasetFacet,
        "dataQualityMetrics": data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet,
        "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    }
    facets = {name: {"_producer": producer, "_schemaURL": schema._get_schema()} for name, schema in classes.items()}
    assert returned == run_id
    assert event.pop("eventTime").endswith("+00:00")
    assert event == {
        "eventType": "COMPLETE",
        "producer": producer,
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {
            "runId": str(run_id),
            "facets": {
                "nominalTime": {
                    "nominalStartTime": "2026-03-01T00:00:00Z",
                    **facets["nominalTime"],
                }
            },
        },
        "job": {
            "namespace": "etl",
            "name": "load_orders",
            "facets": {
                "documentation": {
                    "description": "Loads orders.",
                    **facets["documentation"],
                }
            },
        },
        "inputs": [
            {
                "namespace": "duckdb://shop",
                "name": "shop.main.raw_orders",
                "facets": {
                    "schema": {
                        "fields": [{"name": "id", "type": "INTEGER"}],
                        **facets["schema"],
                    }
                },
                "inputFacets": {
                    "dataQualityMetrics": {
                        "rowCount": 5,
                        "columnMetrics": {},
                        **facets["dataQualityMetrics"],
                    }
                },
            }
        ],
        "outputs": [
            {
                "namespace": "duckdb://shop",
                "name": "shop.main.orders",
                "facets": {},
                "outputFacets": {
                    "outputStatistics": {
                        "rowCount": 5,
                        **facets["outputStatistics"],
                    }
                },
            }
        ],
    }


def test_custom_facet_keeps_its_schema_or_gets_the_general_one(
    plugin: DagsterOrchestratorPlugin,
) -> None:
    own = {"_producer": "https://example.com/me", "_schemaURL": "https://example.com/facet.json", "a": 1}
    with serving() as backend:
        plugin.create_definitions(artifacts(backend.url))
        emit(plugin, run_facets={"acme_own": own, "acme_bare": {"b": 2}, "acme_text": "odd"}, producer="https://h/p")
        plugin.shutdown()

    base = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
    assert backend.events[0]["run"]["facets"] == {
        "acme_own": own,
        "acme_bare": {"b": 2, "_producer": "https://h/p", "_schemaURL": base},
        "acme_text": "odd",
    }


@pytest.mark.parametrize("module", _FACETS)
def test_schema_of_every_facet_of_the_client_is_found(module: str) -> None:
    kind = next(kind for kind in ("input_dataset", "output_dataset", "dataset", "job", "run") if module.endswith(kind))
    words = module.removesuffix(f"_{kind}").split("_")
    name = {"datasource": "dataSource", "dataset_version": "version", "processing_engine": "processing_engine"}.get(
        "_".join(words), words[0] + "".join(word.capitalize() for word in words[1:])
    )

    assert _client_schema(name, kind) is not None


def test_event_with_only_a_job_is_complete(plugin: DagsterOrchestratorPlugin) -> None:
    with serving() as backend:
        plugin.create_definitions(artifacts(backend.url))
        run_id = emit(plugin)
        plugin.shutdown()

    [event] = backend.events
    assert run_id.version == 7
    assert event["run"] == {"runId": str(run_id), "facets": {}}
    assert event["job"] == {"namespace": "sales", "name": "load_orders", "facets": {}}
    assert (event["inputs"], event["outputs"]) == ([], [])
    assert event["producer"].startswith("urn:floe-orchestrator-dagster:")


def test_start_and_end_of_a_run_keep_its_id_and_order(plugin: DagsterOrchestratorPlugin) -> None:
    with serving() as backend:
        plugin.create_definitions(artifacts(backend.url))
        run_id = plugin.emit_lineage_event(RunState.START, "load_orders")
        plugin.emit_lineage_event(RunState.FAIL, "load_orders", run_id=run_id)
        plugin.shutdown()

    assert [(event["eventType"], event["run"]["runId"]) for event in backend.events] == [
        ("START", str(run_id)),
        ("FAIL", str(run_id)),
    ]


def test_without_a_backend_nothing_is_sent_and_the_run_id_is_kept(plugin: DagsterOrchestratorPlugin) -> None:
    run_id = uuid.uuid4()

    assert emit(plugin, run_id=run_id) == run_id
    assert emit(plugin) != emit(plugin)
    assert plugin.get_lineage_emitter() is None


def test_artifacts_of_the_environment_name_the_backend(
    plugin: DagsterOrchestratorPlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "compiled_artifacts.json"
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))
    with serving() as backend:
        path.write_text(json.dumps(artifacts(backend.url)), encoding="utf-8")
        emit(plugin)
        plugin.shutdown()

    assert backend.names == ["load_orders"]


def test_operators_backend_is_used_when_the_artifacts_cannot_be_read(
    plugin: DagsterOrchestratorPlugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(tmp_path / "missing.json"))
    with serving() as backend:
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{backend.server_port}")
        emit(plugin)
        plugin.shutdown()

    assert [event["job"]["namespace"] for event in backend.events] == ["floe"]
    assert "missing.json" in caplog.text


def test_undelivered_events_of_one_plugin_are_sent_first_by_the_next(
    plugin: DagsterOrchestratorPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    content = artifacts(f"http://127.0.0.1:{port}/api/v1/lineage")
    plugin.create_definitions(content)
    plugin.emit_lineage_event(RunState.START, "first")
    plugin.shutdown()
    with serving(port) as backend:
        plugin.emit_lineage_event(RunState.START, "second")
        plugin.shutdown()

    assert backend.names == ["first", "second"]
    assert "1 of 1 events did not reach" in caplog.text


def test_strict_makes_an_event_that_is_not_accepted_an_error(plugin: DagsterOrchestratorPlugin) -> None:
    with serving() as backend:
        backend.answer = lambda _event: 400
        plugin.create_definitions(artifacts(backend.url, {"lineage": {"strict": True}}))
        with pytest.raises(LineageError, match="1 of 1 events did not reach"):
            emit(plugin)
        backend.answer = lambda _event: 201
        with pytest.raises(LineageError):
            plugin.shutdown()


def test_process_that_ends_immediately_has_sent_its_event(tmp_path: Path) -> None:
    code = """
from floe_core.lineage import RunState
from floe_orchestrator_dagster import DagsterOrchestratorPlugin
DagsterOrchestratorPlugin().emit_lineage_event(RunState.COMPLETE, "load_orders")
"""
    with serving() as backend:
        backend.delay = 0.3
        run_python("-c", code, OPENLINEAGE_URL=f"http://127.0.0.1:{backend.server_port}", FLOE_STATE_DIR=str(tmp_path))

    assert backend.names == ["load_orders"]


def test_floe_cores_emitter_delivers_to_the_same_backend(plugin: DagsterOrchestratorPlugin) -> None:
    async def run(emitter: LineageEmitter) -> uuid.UUID:
        run_id = await emitter.emit_start("load_orders", inputs=INPUTS)
        await emitter.emit_fail(run_id, "load_orders", error_message="broken")
        await emitter.emit_complete(run_id, "load_orders", outputs=OUTPUTS)
        await emitter.flush()
        await emitter.close_async()
        return run_id

    with serving() as backend:
        plugin.create_definitions(artifacts(backend.url))
        emitter = plugin.get_lineage_emitter()
        assert isinstance(emitter, LineageEmitter)
        run_id = asyncio.run(run(emitter))
        emitter.close()

    assert run_id.version == 7
    assert [event["eventType"] for event in backend.events] == ["START", "FAIL", "COMPLETE"]
    assert {event["run"]["runId"] for event in backend.events} == {str(run_id)}
    assert {event["job"]["namespace"] for event in backend.events} == {"sales"}
    assert {event["producer"].partition(":")[0] for event in backend.events} == {"urn"}
    failure = backend.events[1]["run"]["facets"]["errorMessage"]
    assert failure["message"] == "broken"
    assert failure["_schemaURL"] == error_message_run.ErrorMessageRunFacet._get_schema()

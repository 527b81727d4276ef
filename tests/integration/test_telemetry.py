"""Spans and metrics of nodes that a real dbt runs, with all kinds of results."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.execution.dbt.engine import engine_for
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.dbt.target import new_target
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from recording import recording
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_FILES = {
    "dbt_project.yml": """
        name: shop
        profile: shop_orders
        version: "1.0"
        """,
    "seeds/raw.csv": """
        id
        1
        """,
    "models/good.sql": "{{ config(materialized='table') }} select id from {{ ref('raw') }}",
    "models/view.sql": "select id from {{ ref('good') }}",
    "models/broken.sql": "select nothing_of_that_name from {{ ref('good') }}",
    "models/after.sql": "select * from {{ ref('broken') }}",
    "tests/small.sql": "{{ config(severity='warn') }} select id from {{ ref('good') }}",
    "models/schema.yml": """
        models:
          - name: good
            columns:
              - {name: id, data_tests: [unique]}
        """,
}


@pytest.fixture(scope="module", params=["core", "v2"])
def results(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[NodeResult]:
    """Build a project with each dbt engine; gives the results of its nodes."""
    project = write_files(tmp_path_factory.mktemp("traced"), _FILES)
    artifacts = contract(*map(model, ("good", "view", "broken", "after")), config={"dbt": engine_config(request.param)})
    path = write_json(project / "compiled_artifacts.json", artifacts)
    product = load_product(path, manifest_source=manifest_rebuilt)
    assert product.dbt is not None
    dbt = product.dbt.on("")
    target = new_target(dbt, "build", "a-run").path
    with engine_for(dbt, product.config.dbt, logging.getLogger(__name__)).start(["build"], target) as run:
        return [value for value in run.values() if isinstance(value, NodeResult)]


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_every_node_of_a_build_is_a_span_with_its_outcome(results: list[NodeResult]) -> None:
    with recording() as recorded, dbt_build({"floe.namespace": "sales"}, "a-run") as build:
        for result in results:
            build.record(result)

    nodes = {_attributes(span)["floe.dbt.model"]: span for span in recorded.spans if span.name.endswith(".node")}
    assert {name: _attributes(span)["dbt.status"] for name, span in nodes.items()} == {
        "raw": "success",
        "good": "success",
        "unique_good_id": "pass",
        "small": "warn",
        "view": "success",
        "broken": "error",
        "after": "skipped",
    }
    assert {name for name, span in nodes.items() if span.status.status_code is StatusCode.ERROR} == {"broken"}
    assert "broken" in str(nodes["broken"].status.description)
    assert _attributes(nodes["good"])["dbt.materialization"] == "table"


def test_nodes_are_as_long_as_dbt_says_and_not_in_the_future(results: list[NodeResult]) -> None:
    with recording() as recorded, dbt_build({}, "a-run") as build:
        for result in results:
            build.record(result)

    build_span = recorded.span("build")
    for span in recorded.spans:
        started, ended = span.start_time or 0, span.end_time or 0
        assert started <= ended <= (build_span.end_time or 0)
    table = next(span for span in recorded.spans if _attributes(span).get("floe.dbt.model") == "good")
    assert 0 < (table.end_time or 0) - (table.start_time or 0) < 60_000_000_000


def test_metrics_count_what_dbt_built(results: list[NodeResult]) -> None:
    with recording() as recorded:
        with dbt_build({}, "a-run") as build:
            for result in results:
                build.record(result)
        points = recorded.points("nodes")

    counted = {(point.attributes["dbt.resource_type"], point.attributes["dbt.status"]): point.value for point in points}
    assert counted == {
        ("seed", "success"): 1,
        ("model", "success"): 2,
        ("model", "error"): 1,
        ("model", "skipped"): 1,
        ("test", "pass"): 1,
        ("test", "warn"): 1,
    }

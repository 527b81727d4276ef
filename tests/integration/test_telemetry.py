"""Spans and metrics of nodes that a real dbt runs, with all kinds of results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from opentelemetry.trace import StatusCode

from files import write_files
from floe_orchestrator_dagster.execution.dbt.core_events import CoreEvents
from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.record.build_trace import dbt_build
from processes import clean_environment
from recording import recording

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_FILES = {
    "dbt_project.yml": """
        name: shop
        profile: shop
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


# dbt reports the results of nodes on the level debug.
_JSON_LOG = ("--log-format", "json", "--log-level", "debug", "--no-use-colors")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[NodeResult]:
    """Build a project with dbt itself; gives the results of the nodes that it logs."""
    project = write_files(tmp_path_factory.mktemp("traced"), _FILES)
    output = {"type": "duckdb", "path": str(project / "shop.duckdb")}
    profile = {"shop": {"target": "dev", "outputs": {"dev": output}}}
    (project / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    dbt = Path(sys.executable).with_name("dbt")
    result = subprocess.run(
        [str(dbt), *_JSON_LOG, "build", "--profiles-dir", str(project)],
        cwd=project,
        env=clean_environment(DBT_SEND_ANONYMOUS_USAGE_STATS="false", DBT_VERSION_CHECK="false"),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    log = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return [value for value in map(CoreEvents().read, log) if isinstance(value, NodeResult)]


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

"""Results of a pull request's build: queries of failed tests, and failures that belong to no reported node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.pull_request.changes import Changes
from floe_orchestrator_dagster.pull_request.results import node_reports, other_failures

if TYPE_CHECKING:
    from pathlib import Path

MART, HIDDEN, TOTAL, CHECK = "model.shop.mart", "model.shop.hidden", "function.shop.total", "test.shop.check_ids"
CHANGES = Changes({MART: "is new", HIDDEN: "is new"}, {}, {CHECK: "is new"}, frozenset({TOTAL}), {})
NODES = {
    MART: {"resource_type": "model", "config": {"materialized": "table"}},
    HIDDEN: {"resource_type": "model", "config": {"materialized": "ephemeral"}},
    TOTAL: {"resource_type": "function", "config": {}},
}


def failed(unique_id: str) -> Results:
    results, (kind, _, name) = Results({}), unique_id.split(".")
    results.add(NodeResult(unique_id, name, kind, "", "fail" if kind == "test" else "error", message="no table"))
    return results


@pytest.mark.parametrize(
    ("results", "is_successful", "errors"),
    [
        (failed(MART), False, []),
        (failed(TOTAL), False, [f"{TOTAL}: no table"]),
        (failed(HIDDEN), False, [f"{HIDDEN}: no table"]),
        (Results({}), False, ["dbt ended with a failure that belongs to no node. See its log."]),
        (Results({}), True, []),
    ],
)
def test_failures_that_no_report_shows_are_errors(results: Results, is_successful: bool, errors: list[str]) -> None:  # noqa: FBT001  # a case
    assert other_failures(CHANGES, NODES, results, is_successful=is_successful) == errors


@pytest.mark.parametrize(
    ("node", "query"),
    [
        ({"package_name": "shop", "original_file_path": "tests/b/check_ids.sql", "path": "check_ids.sql"}, "b"),
        ({"package_name": "shop", "original_file_path": "models/schema.yml", "path": "check_ids.sql"}, "schema"),
        ({"package_name": "shop", "original_file_path": "tests/c/check_ids.sql", "path": "check_ids.sql"}, ""),
        ({"package_name": "shop", "original_file_path": "elsewhere.sql", "path": "only.sql"}, "only"),
        ({}, ""),
    ],
)
def test_the_query_of_a_failed_test_is_that_of_no_other_test(tmp_path: Path, node: dict[str, Any], query: str) -> None:
    files = {
        "shop/tests/a/check_ids.sql": "a",
        "shop/tests/b/check_ids.sql": "b",
        "shop/models/schema.yml/check_ids.sql": "schema",
        "shop/tests/only.sql": "only",
        "shop/x": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    reports = node_reports(CHANGES, {**NODES, CHECK: {"config": {}, **node}}, failed(CHECK), tmp_path, [])

    assert [one.query for one in reports if one.unique_id == CHECK] == [query]

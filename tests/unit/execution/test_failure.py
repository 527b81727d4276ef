"""What a step says when dbt failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.errors import DbtBuildError
from floe_orchestrator_dagster.execution.failure import nodes_error, with_failures_shown
from floe_orchestrator_dagster.execution.results import Results
from unit.execution.test_results import finished

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = {"model.shop.a": {"original_file_path": "models/a.sql"}}


def test_a_failure_is_a_table_of_what_failed_and_what_was_skipped() -> None:
    results = Results({"model.shop.b": ["model.shop.a"]})
    message = "Runtime Error in model a (models/a.sql)\n  Binder Error: no column"
    for one in (finished("a", "error", message=message), finished("b", "skipped")):
        results.add(one)
    error = nodes_error(results, NODES, "/shop")

    with pytest.raises(dg.Failure) as caught:
        list(with_failures_shown(raising(error)))

    assert str(error) == (
        "/shop: 1 failed, 1 skipped because of it, 0 succeeded\n"
        "  models/a.sql: model a: Runtime Error: Binder Error: no column\n"
        "    fix: Correct it, then re-execute from failure: what succeeded is not built again."
    )
    assert caught.value.description == str(error)
    assert set(caught.value.metadata) == {"failed", "skipped"}


def test_a_hook_that_fails_is_told_although_no_node_failed() -> None:
    results = Results({})
    results.add(finished("a"))

    error = nodes_error(results, NODES, "/shop")

    assert type(error) is DbtBuildError
    assert str(error).startswith("/shop: dbt failed outside of its nodes, in an on-run hook: 0 failed, 1 succeeded.")


def raising(error: DbtBuildError) -> Iterator[object]:
    yield from ()
    raise error

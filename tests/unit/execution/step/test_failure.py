"""Errors and failures of a step after dbt failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.errors import (
    ConfigError,
    DbtBuildError,
    DbtNodesError,
    DbtSetupError,
    FloeDagsterError,
    LineageError,
    ProfileError,
)
from floe_orchestrator_dagster.execution.step.build import step_events
from floe_orchestrator_dagster.execution.step.failure import nodes_error
from unit.execution.dbt.events import event, finished, results_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = {"model.shop.a": {"original_file_path": "models/a.sql"}}


def test_a_failure_has_tables_of_failed_and_skipped_nodes(instance: dg.DagsterInstance) -> None:
    message = "Runtime Error in model a (models/a.sql)\n  Binder Error: no column"
    failed, skipped = finished("a", "error", message=message), finished("b", "skipped")
    results = results_of(failed, skipped, parents={"model.shop.b": ["model.shop.a"]})
    error = nodes_error(results, NODES, "/shop")

    with pytest.raises(dg.Failure) as caught:
        list(step_events(raising(error), instance))

    assert str(error) == (
        "/shop: 1 failed, 1 skipped because of it, 0 succeeded\n"
        "  models/a.sql: model a: Runtime Error: Binder Error: no column\n"
        "    fix: Correct it, then re-execute from failure. Nodes that succeeded are not built again."
    )
    assert caught.value.description == str(error)
    assert set(caught.value.metadata) == {"failed", "skipped"}


def test_a_hook_that_fails_is_named_with_its_file_although_no_node_failed() -> None:
    hook = "shop-on-run-end-1"
    results = results_of(
        finished("a"),
        event("RunResultFailure", hook, "operation", path="./dbt_project.yml"),
        event("RunResultError", hook, "operation", msg="  shop.on-run-end.1 failed, error:\n Catalog Error: no table"),
    )

    error = nodes_error(results, NODES, "/shop")

    assert isinstance(error, DbtNodesError)
    assert error.retryable
    assert str(error) == (
        "/shop: 1 on-run hook failed, 1 succeeded\n"
        "  dbt_project.yml: hook shop.on-run-end.1: Catalog Error: no table\n"
        "    fix: Correct the hook, then re-execute from failure. dbt runs hooks only with nodes: with all of them if "
        "none is left."
    )


def test_a_failure_outside_of_nodes_is_an_error() -> None:
    results = results_of(finished("a"))

    error = nodes_error(results, NODES, "/shop")

    assert type(error) is DbtBuildError
    assert str(error).startswith("/shop: dbt failed outside of its nodes: 0 failed, 1 succeeded.")


@pytest.mark.parametrize(
    ("messages", "retryable"),
    [
        (("Compilation Error in model a (models/a.sql)\n  no macro",), False),
        (("Compilation Error in model a (models/a.sql)\n  no macro", "Database Error in model b\n  deadlock"), True),
        (("Got 1 result, configured to fail if != 0",), True),
    ],
)
def test_errors_that_require_a_change_of_the_project_are_not_retried(
    instance: dg.DagsterInstance, messages: tuple[str, ...], *, retryable: bool
) -> None:
    results = results_of(*(finished(f"node_{row}", "error", message=message) for row, message in enumerate(messages)))

    with pytest.raises(dg.Failure) as caught:
        list(step_events(raising(nodes_error(results, NODES, "/shop")), instance))

    assert caught.value.allow_retries is retryable


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [
        (DbtSetupError("refused"), False),
        (ProfileError("profile", []), False),
        (ConfigError("config", []), False),
        (DbtBuildError("locked"), True),
        (LineageError("lineage", []), True),
    ],
)
def test_errors_that_a_retry_cannot_correct_are_final(
    instance: dg.DagsterInstance, error: FloeDagsterError, *, is_tried_again: bool
) -> None:
    with pytest.raises((FloeDagsterError, dg.Failure)) as caught:
        list(step_events(raising(error), instance))

    raised = caught.value
    assert isinstance(raised, dg.Failure) is not is_tried_again
    assert str(error) == (raised.description if isinstance(raised, dg.Failure) else str(raised))
    assert not isinstance(raised, dg.Failure) or raised.allow_retries is False


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def raising(error: FloeDagsterError) -> Iterator[object]:
    yield from ()
    raise error

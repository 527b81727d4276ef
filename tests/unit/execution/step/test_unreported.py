"""Why dbt reported no result of a selected node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
from floe_orchestrator_dagster.execution.dbt.results import Results
from floe_orchestrator_dagster.execution.step.failure import left_out, unreported_problems
from unit.samples import manifest, node, write_json

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "model.shop.a"
NODES = {MODEL: {"name": "a", "original_file_path": "models/a.sql"}}


def ended(status: str, materialized: str = "table") -> Results:
    """Give the results of an invocation in which the model ended so."""
    result = NodeResult(MODEL, "a", "model", materialized, status)
    return Results({}, finished={MODEL: result})


def problems(results: Results, target: Path, *, has_succeeded: bool = True) -> list[str]:
    found = unreported_problems({MODEL}, results, NODES, target, has_succeeded=has_succeeded)
    return [f"{problem.where}: {problem.what}" for problem in found]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Give the target directory of an invocation whose manifest has the model."""
    write_json(tmp_path / "manifest.json", manifest(node("a")))
    return tmp_path


@pytest.mark.parametrize("status", ["success", "error", "skipped", "partial success"])
def test_a_node_that_dbt_ran_or_skipped_is_reported(target: Path, status: str) -> None:
    assert problems(ended(status), target) == []


def test_a_model_that_became_ephemeral_is_no_table(target: Path) -> None:
    assert problems(ended("success", "ephemeral"), target) == [
        "models/a.sql: model a is ephemeral in this run, so it has no table"
    ]


def test_nodes_that_dbt_has_and_did_not_come_to_after_a_failure_are_not_named(target: Path) -> None:
    assert problems(Results({}), target, has_succeeded=False) == []
    assert problems(Results({}), target) == ["models/a.sql: model a was not run: dbt reported no result"]


def test_nodes_that_dbt_no_longer_has_are_named_after_a_failure_too(target: Path) -> None:
    write_json(target / "manifest.json", manifest(node("b")))

    assert problems(Results({}), target, has_succeeded=False) == [
        "models/a.sql: dbt no longer has model a: it was removed, renamed or changed after the code location was loaded"
    ]


@pytest.mark.parametrize(
    ("in_dagster_dev", "fix"),
    [("1", "Reload the code location."), ("", "Run `floe-dagster prepare` and reload the code location.")],
)
def test_fix_of_a_node_that_is_gone_fits_where_dagster_runs(
    target: Path, monkeypatch: pytest.MonkeyPatch, in_dagster_dev: str, fix: str
) -> None:
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", in_dagster_dev)
    write_json(target / "manifest.json", manifest(node("b")))

    [problem] = unreported_problems({MODEL}, Results({}), NODES, target, has_succeeded=False)

    assert problem.fix == fix


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_without_a_manifest_of_the_invocation_the_reason_is_not_known(target: Path, content: str | None) -> None:
    path = target / "manifest.json"
    path.unlink() if content is None else path.write_text(content)

    assert problems(Results({}), target) == ["models/a.sql: model a was not run: dbt reported no result"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("DBT_EXCLUDE_RESOURCE_TYPES", "seed model"), ("DBT_RESOURCE_TYPES", "test"), ("DBT_RESOURCE_TYPES", "seed test")],
)
def test_a_variable_that_leaves_out_the_resource_type_is_named(
    target: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    why = f"dbt omits it because of {name}={value!r}"
    assert problems(Results({}), target) == [f"models/a.sql: model a was not run: {why}"]
    assert str(left_out("shop", "a")) == (
        f"shop: 'a' was not built: {why}. Unset the variable where Dagster's runs get their environment."
    )


def test_variables_that_keep_the_resource_type_are_not_named(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_RESOURCE_TYPES", "model test")
    monkeypatch.setenv("DBT_EXCLUDE_RESOURCE_TYPES", "seed")

    assert problems(Results({}), target) == ["models/a.sql: model a was not run: dbt reported no result"]

"""Options of a run: passed on, refused with what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.deferral import deferral
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions, SourceOptions, variables
from unit.dbt_shop import dbt_shop

if TYPE_CHECKING:
    from pathlib import Path


def test_options_become_dbts_arguments() -> None:
    options = DbtOptions(full_refresh=True, threads=8, fail_fast=True, flags=["--empty", "--warn-error"])

    assert options.arguments() == ["--full-refresh", "--threads", "8", "--fail-fast", "--empty", "--warn-error"]
    assert DbtOptions().arguments() == []


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--select", "launch the run for the assets that you want"),
        ("-s", "launch the run for the assets that you want"),
        ("--vars={a: 1}", "set `vars`"),
        ("--vars {a: 1}", "set `vars`"),
        ("--full-refresh", "set `full_refresh`"),
        ("--target", "set `target`"),
        ("--profiles-dir", "choose another `target`: the profile is the compiled one"),
        ("--event-time-start", "launch the run for a partition"),
        ("--no-such", "known flags are --empty, "),
        ("; rm -rf /", "known flags are --empty, "),
        ("", "known flags are --empty, "),
    ],
)
def test_a_flag_that_is_not_passed_on_is_named_with_what_does_it(flag: str, instead: str) -> None:
    with pytest.raises(DbtSetupError) as caught:
        DbtOptions(flags=[flag]).arguments()

    assert str(caught.value).startswith(f"run configuration, flags: {flag!r} is not passed to dbt: {instead}")


def test_variables_of_the_partition_win_over_those_of_the_run() -> None:
    assert variables({"a": 1, "b": [2]}, {"a": "x"}) == ["--vars", '{"a": "x", "b": [2]}']
    assert variables({}, {}) == []


@pytest.mark.parametrize("threads", [0, -1])
def test_no_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(DbtSetupError, match=rf"threads: {threads} is too few\. Give 1 or more"):
        SourceOptions(threads=threads).arguments()


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, []),
        ({"DBT_STATE": "/before"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before", "DBT_STATE": "/older"}, ["--defer-state", "/before"]),
        ({"DBT_ENGINE_STATE": "/before", "DBT_DEFER_STATE": "/other"}, []),
        ({"DBT_STATE": "/before", "DBT_ENGINE_DEFER_STATE": "/other"}, []),
    ],
)
def test_the_state_of_the_environment_is_for_deferral(
    environment: dict[str, str], arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = dbt_shop(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    dbt = shop.dbt
    assert dbt is not None
    assert deferral(DbtOptions(), None, shop, dbt.on("duckdb"), tmp_path) == arguments

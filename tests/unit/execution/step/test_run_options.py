"""Options of a run: passed on, refused with what to do instead."""

from __future__ import annotations

import dagster as dg
import pytest

from floe_orchestrator_dagster.errors import DbtSetupError
from floe_orchestrator_dagster.execution.step.run_options import DbtOptions, SourceOptions, rows_chosen, variables


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


def _chosen(config: dict[str, object], tags: dict[str, str]) -> object:
    run = dg.DagsterRun("job", run_config={"ops": {"build": {"config": config}}}, tags=tags)
    return rows_chosen(run, "build")


@pytest.mark.parametrize(
    ("config", "tags"),
    [
        ({"sample": "", "empty": False}, {"floe/dbt_sample": "3 days", "floe/dbt_empty": "true"}),
        ({"flags": ["--no-empty"]}, {"floe/dbt_empty": "true"}),
        ({"defer": False}, {"floe/dbt_defer": "true"}),
        ({"state": "/other"}, {"floe/dbt_defer": "true", "floe/dbt_state": "/srv"}),
    ],
)
def test_an_option_that_the_run_turns_off_or_replaces_chooses_other_rows(
    config: dict[str, object], tags: dict[str, str]
) -> None:
    assert _chosen(config, tags) != _chosen({}, tags)


@pytest.mark.parametrize(
    ("config", "tags"),
    [
        ({"sample": "3 days"}, {"floe/dbt_sample": "3 days"}),
        ({"empty": True}, {"floe/dbt_empty": "true"}),
        ({"flags": ["--empty"]}, {"floe/dbt_empty": "true"}),
        ({"favor_state": False, "defer": True}, {"floe/dbt_favor_state": "false", "floe/dbt_defer": "true"}),
        ({"sample": "", "vars": {}, "flags": []}, {}),
    ],
)
def test_an_option_chooses_the_same_rows_in_the_run_and_in_its_job(
    config: dict[str, object], tags: dict[str, str]
) -> None:
    assert _chosen(config, {}) == _chosen({}, tags)

"""dbt selections on a manifest, and errors for selections that match nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.assets.selection import NodeSelection
from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.errors import ConfigError, DbtSetupError
from unit.dbt_shop import dbt_shop
from unit.samples import model, product

if TYPE_CHECKING:
    from pathlib import Path

HERE = config_path("jobs", 0)
NO_SELECTORS = "is not a valid dbt selection: selectors.yml has no selector 'nightly'. It has none"
SYNTAX = "See https://docs.getdbt.com/reference/node-selection/syntax. Correct it in manifest.yaml."


@pytest.fixture
def selection(tmp_path: Path) -> NodeSelection:
    return NodeSelection(dbt_shop(tmp_path))


def names(selected: frozenset[str]) -> set[str]:
    return {unique_id.split(".")[-1] for unique_id in selected}


@pytest.mark.parametrize(
    ("select", "exclude", "expected"),
    [
        ("fqn:*", None, {"raw", "stg", "mart", "wide"}),
        ("*", None, {"raw", "stg", "mart", "wide"}),
        ("stg", None, {"stg"}),
        ("stg+", None, {"stg", "mart", "wide"}),
        ("+mart", None, {"raw", "stg", "mart"}),
        ("2+mart", None, {"stg", "mart"}),
        ("@stg", None, {"raw", "stg", "mart", "wide"}),
        ("tag:daily", None, {"stg", "mart"}),
        ("tag:daily,tag:gold", None, {"mart"}),
        ("raw tag:gold", None, {"raw", "mart"}),
        ("  raw\t tag:gold ", None, {"raw", "mart"}),
        ("fqn:*", "tag:daily", {"raw", "wide"}),
        ("tag:daily", "tag:nobody_has_it", {"stg", "mart"}),
        ("staging", None, {"stg"}),
        ("resource_type:seed", None, {"raw"}),
        ("access:public", None, {"mart"}),
        ("wide", None, {"wide"}),
        ("version:latest", None, {"wide"}),
        ("+test_type:generic", None, {"raw", "stg", "mart"}),
        ("path:models/stg.sql", None, {"stg"}),
        ("models/m*", None, {"mart"}),
    ],
)
def test_selection_has_the_result_of_dbt(
    selection: NodeSelection, select: str, exclude: str | None, expected: set[str]
) -> None:
    assert names(selection.unique_ids(select, exclude, HERE)) == expected


def test_path_is_found_from_any_working_directory(
    selection: NodeSelection, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    assert names(selection.unique_ids("path:models", "path:models/mart.sql", HERE)) == {"stg", "wide"}


@pytest.mark.parametrize(
    ("select", "exclude", "key", "what", "fix"),
    [
        ("tag:typo", None, "select", "'tag:typo' matches nothing", "`dbt ls --select 'tag:typo'`"),
        ("stg tag:typo", None, "select", "'tag:typo' matches nothing (in 'stg tag:typo')", "`dbt ls --select 'tag:"),
        ("stg,mart", None, "select", "'stg,mart' matches nothing", "`dbt ls --select 'stg,mart'`"),
        (" ", None, "select", "'' matches nothing", "`dbt ls --select ''`"),
        ("hidden", None, "select", "'hidden' selects no model, seed or snapshot", "`dbt ls --select 'hidden'`"),
        ("tag:quality", None, "select", "'tag:quality' selects no model, seed or snapshot", "`dbt ls --select 'tag:"),
        ("stg", "tag:daily", "exclude", "'tag:daily' excludes everything that 'stg' selects", "`dbt ls --select 'tag:"),
        (
            "labels:x",
            None,
            "select",
            "'labels:x' is not a valid dbt selection: 'labels' is not a valid method name",
            SYNTAX,
        ),
        (
            "fqn:*",
            "labels:x",
            "exclude",
            "'labels:x' is not a valid dbt selection: 'labels' is not a valid method name",
            SYNTAX,
        ),
        ("stg selector:nightly+", None, "select", f"'stg selector:nightly+' {NO_SELECTORS}", SYNTAX),
        ("@stg+", None, "select", "'@stg+' is not a valid dbt selection: ", SYNTAX),
        ("state:modified", None, "select", "'state:modified' is not a valid dbt selection: ", SYNTAX),
        ("result:error", None, "select", "'result:error' is not a valid dbt selection: ", SYNTAX),
        ("path:/etc", None, "select", "'path:/etc' is not a valid dbt selection: Non-relative patterns", SYNTAX),
        ("resource_type:table", None, "select", "'resource_type:table' is not a valid dbt selection: ", SYNTAX),
    ],
)
def test_selection_that_selects_nothing_is_refused(  # noqa: PLR0913, PLR0917  # a table's columns
    selection: NodeSelection, tmp_path: Path, select: str, exclude: str | None, key: str, what: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        selection.unique_ids(select, exclude, HERE)

    [problem] = raised.value.problems
    assert raised.value.origin == str(tmp_path / "compiled_artifacts.json")
    assert problem.where == f"plugins.orchestrator.config.jobs[0].{key}"
    assert problem.what.startswith(what)
    assert problem.fix.startswith(fix)
    assert problem.fix.endswith("Correct it in manifest.yaml.")


@pytest.mark.parametrize(
    ("select", "meant"),
    [
        ("strg", "stg"),
        ("2+martt+", "2+mart+"),
        ("@stgg", "@stg"),
        ("stagign", "staging"),
        ("tag:dayly", "tag:daily"),
        ("+tag:golde", "+tag:gold"),
        ("source:crm", None),
        ("source:erp.order", "source:erp.orders"),
        ("path:modles", "path:models"),
        ("file:stg.sq", "file:stg.sql"),
        ("resource_type:seeds,tag:daily", None),
        ("package:shp", "package:shop"),
        ("stg,martt", "stg,mart"),
        ("tag:something_else", None),
        ("config.materialized:vieww", None),
        ("stg,mart", None),
    ],
)
def test_selection_that_matches_nothing_names_what_is_close(
    selection: NodeSelection, select: str, meant: str | None
) -> None:
    with pytest.raises(ConfigError) as raised:
        selection.unique_ids(select, None, HERE)

    [problem] = raised.value.problems
    assert problem.fix.startswith(f"Did you mean {meant!r}? `dbt ls") is (meant is not None)


def test_fix_of_a_runs_exclude_does_not_name_manifest_yaml(selection: NodeSelection) -> None:
    with pytest.raises(ConfigError) as raised:
        selection.unique_ids("fqn:*", "fqn:*", "run configuration")

    assert str(raised.value) == (
        "run configuration: 1 problem\n"
        "  exclude: 'fqn:*' excludes everything that 'fqn:*' selects\n"
        "    fix: `dbt ls --select 'fqn:*'` shows what it matches."
    )


def test_no_match_is_not_printed(selection: NodeSelection, capfd: pytest.CaptureFixture[str]) -> None:
    selection.unique_ids("fqn:*", "tag:nobody_has_it", HERE)
    with pytest.raises(ConfigError):
        selection.unique_ids("tag:nobody_has_it", None, HERE)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("select", "exclude", "problem"),
    [
        ("tag:daily", None, "select: 'tag:daily' cannot be resolved"),
        ("stg", "mart", "select: 'stg' cannot be resolved"),
        ("fqn:*", "mart", "exclude: 'mart' cannot be resolved"),
    ],
)
def test_product_without_a_dbt_project_says_so(select: str, exclude: str | None, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        NodeSelection(product(model("stg"))).unique_ids(select, exclude, HERE)

    assert str(raised.value) == (
        "CompiledArtifacts: 1 problem\n"
        f"  plugins.orchestrator.config.jobs[0].{problem}: product 'shop-orders' has no dbt project here\n"
        "    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml, or leave the selection out."
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=40), st.from_regex(r"@?\d?\+?(tag|path|config\.\w|fqn|state)?:?\w*[*\[.]?\+?\d?")))
def test_any_text_selects_assets_or_is_refused(selection: NodeSelection, select: str) -> None:
    try:
        selected = selection.unique_ids(select, None, HERE)
    except ConfigError as error:
        places = {problem.where for problem in error.problems}
    else:
        places = set()
        assert selected
        assert names(selected) <= {"raw", "stg", "mart", "wide"}
    assert places <= {f"{HERE}.select"}


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ("stg", {"stg", "unique_stg"}),
        ("unique_stg", {"unique_stg"}),
        ("tag:quality", {"unique_stg"}),
        ("test_type:generic", {"unique_stg", "unique_mart"}),
        ("stg unique_mart", {"stg", "unique_stg", "unique_mart"}),
        ("resource_type:seed", {"raw"}),
    ],
)
def test_a_run_excludes_the_same_nodes_as_dbt(selection: NodeSelection, exclude: str, expected: set[str]) -> None:
    assert names(selection.excluded(exclude, pytest.fail)) == expected


def test_each_part_of_an_exclude_that_matches_nothing_is_logged(selection: NodeSelection) -> None:
    logged: list[str] = []

    assert names(selection.excluded("nobody stg tag:slip", logged.append)) == {"stg", "unique_stg"}
    said = "run configuration, exclude: {0!r} matches nothing, so nothing is excluded. `dbt ls --select {0!r}` shows"
    assert logged == [f"{said.format(part)} what it matches." for part in ("nobody", "tag:slip")]


def test_an_invalid_exclude_of_a_run_is_not_retried(selection: NodeSelection) -> None:
    with pytest.raises(DbtSetupError) as caught:
        selection.excluded("nonsense:x", pytest.fail)

    assert str(caught.value).startswith("run configuration, exclude: 'nonsense:x' is not a valid dbt selection: ")

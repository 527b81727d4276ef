"""The command line says what it did, and exits with 1 for a product's errors and 2 for wrong usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster import __version__
from processes import floe_dagster
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

_NO_ARTIFACTS = """\
error: FLOE_ARTIFACTS_PATH: 1 problem
  the environment variable is not set
    fix: Name the compiled product and start again:
        export FLOE_ARTIFACTS_PATH=path/to/compiled_artifacts.json
        dagster dev -m floe_orchestrator_dagster.definitions
"""


def test_version_is_printed() -> None:
    assert floe_dagster("--version").stdout == f"floe-dagster, version {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    said = floe_dagster(option).stdout

    assert said.startswith("Usage: floe-dagster [OPTIONS] COMMAND [ARGS]...\n\n  Run floe data products in Dagster.\n")
    assert "\n  prepare  Install dbt packages and parse the dbt project with the..." in said


def test_help_of_prepare_shows_an_example() -> None:
    said = floe_dagster("prepare", "--help").stdout

    assert said.startswith("Usage: floe-dagster prepare [OPTIONS] [ARTIFACTS]\n")
    assert "\n  Example:\n    floe-dagster prepare dbt_project/compiled_artifacts.json\n" in said


def test_prepare_without_artifacts_says_what_to_set() -> None:
    result = floe_dagster("prepare", check=False)

    assert (result.returncode, result.stdout, result.stderr) == (1, "", _NO_ARTIFACTS)


def test_prepare_of_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"

    result = floe_dagster("prepare", str(path), check=False)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path}: 1 problem\n  the file does not exist\n    fix: ")


def test_prepare_takes_the_artifacts_of_the_environment(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract())

    result = floe_dagster("prepare", FLOE_ARTIFACTS_PATH=str(path))

    assert (result.stdout, result.stderr) == ("shop-orders: declares no transforms, nothing to prepare\n", "")


def test_prepare_without_a_dbt_project_says_where_to_name_it(tmp_path: Path) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract(model("stg_orders")))

    result = floe_dagster("prepare", str(path), check=False)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {path}: no dbt project to prepare. Set FLOE_DBT_PROJECT_DIR to it.\n"


@pytest.mark.parametrize("arguments", [["parse"], ["prepare", "--fast"], ["prepare", "a", "b"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = floe_dagster(*arguments, check=False)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: floe-dagster ")

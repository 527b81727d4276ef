"""The built wheel in an environment without a dbt engine: a prepared product loads, and what needs dbt says so."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from processes import clean_environment
from without_dbt import environment_without_dbt, run_without_dbt

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the packages of an environment without dbt, with the wheel of this checkout."""
    directory = tmp_path_factory.mktemp("without_dbt")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=REPOSITORY, env=clean_environment(), check=True, capture_output=True, timeout=600)
    (built,) = directory.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(directory / "wheel")
    return environment_without_dbt(directory / "packages", directory / "wheel")


def test_validation_of_a_prepared_product_reports_only_the_missing_engine(
    packages: Path, prepared_sample: Path
) -> None:
    artifacts = str(prepared_sample / "compiled_artifacts.json")

    invalid, validated = run_without_dbt(packages, "-m", "floe_orchestrator_dagster", "validate", artifacts)

    assert (invalid, validated.splitlines()[-1]) == (1, "1 problem"), validated
    assert "no dbt engine is installed" in validated


def test_prepare_names_the_commands_that_install_an_engine(packages: Path, sample: Path) -> None:
    status, printed = run_without_dbt(
        packages, "-m", "floe_orchestrator_dagster", "prepare", str(sample / "compiled_artifacts.json")
    )

    assert status == 1
    assert "no dbt engine is installed" in printed
    assert "`pip install dbt` installs dbt v2" in printed
    assert "Traceback" not in printed

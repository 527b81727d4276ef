"""``dagster definitions validate`` as CI of a data product runs it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from e2e.servers import dagster_home
from processes import run_python

if TYPE_CHECKING:
    from pathlib import Path

VALIDATE = ("-m", "dagster", "definitions", "validate")
MODULE = ("-m", "floe_orchestrator_dagster.definitions")


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(dagster_home(tmp_path / "home"))


def test_prepared_sample_is_valid(prepared_sample: Path, home: str) -> None:
    artifacts = prepared_sample / "compiled_artifacts.json"

    result = run_python(*VALIDATE, *MODULE, FLOE_ARTIFACTS_PATH=str(artifacts), DAGSTER_HOME=home)

    assert "Validation successful for code location floe_orchestrator_dagster.definitions." in result.stdout
    assert "WARNING" not in result.stdout
    # Neither this package nor floe-core, which logs to standard output, has anything to say.
    assert [line for line in result.stdout.splitlines() if " - dagster - " not in re.sub(r"\x1b\[\d*m", "", line)] == []
    assert "floe" not in result.stderr


def test_missing_artifacts_path_is_reported_with_the_two_lines_that_help(home: str) -> None:
    result = run_python(*VALIDATE, *MODULE, check=False, DAGSTER_HOME=home)

    assert result.returncode == 1
    assert "ArtifactsError: FLOE_ARTIFACTS_PATH: 1 problem\n  the environment variable is not set\n" in result.stdout
    assert (
        "        export FLOE_ARTIFACTS_PATH=path/to/compiled_artifacts.json\n"
        "        dagster dev -m floe_orchestrator_dagster.definitions\n"
    ) in result.stdout


def test_cycle_is_reported_with_its_path(prepared_sample: Path, home: str) -> None:
    artifacts = prepared_sample / "compiled_artifacts.json"
    content = json.loads(artifacts.read_text())
    models = {model["name"]: model for model in content["transforms"]["models"]}
    models["int_order_payments"]["depends_on"] = ["fct_orders"]
    artifacts.write_text(json.dumps(content))

    result = run_python(*VALIDATE, *MODULE, check=False, FLOE_ARTIFACTS_PATH=str(artifacts), DAGSTER_HOME=home)

    assert result.returncode == 1
    assert f"ArtifactsError: {artifacts}: 1 problem" in result.stdout
    assert "transforms.models: circular dependency: " in result.stdout
    assert "Correct floe.yaml and compile the product again (floe platform compile)." in result.stdout


def test_definitions_generated_by_the_compiler_are_valid(prepared_sample: Path, home: str) -> None:
    spec, manifest = str(prepared_sample / "floe.yaml"), str(prepared_sample / "manifest.yaml")
    output = prepared_sample / "target" / "compiled_artifacts.json"
    options = ("--output", str(output), "--generate-definitions", "--no-lineage-emission")

    run_python("-m", "floe_core.cli.main", "platform", "compile", "--spec", spec, "--manifest", manifest, *options)
    result = run_python(*VALIDATE, "-f", str(output.with_name("definitions.py")), DAGSTER_HOME=home)

    assert "Validation successful for code location definitions.py." in result.stdout

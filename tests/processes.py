"""Processes as a user starts them, with a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    import dagster as dg

FOREIGN_PREFIXES = ("FLOE_", "DBT_", "DAGSTER_", "OPENLINEAGE_", "OTEL_")
# `make test-unpatched` runs tests without the patches of dagster, dagster-dbt and dbt.
PATCHES = {"FLOE_UPSTREAM_PATCHES": "off"} if os.environ.get("UNPATCHED") else {}


def clean_environment(**environment: str) -> dict[str, str]:
    """Return this process's environment without settings of the machine, plus ``environment``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_PREFIXES)}
    return {**kept, "DAGSTER_DISABLE_TELEMETRY": "true", **PATCHES, **environment}


def floe_dagster(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a separate process."""
    return run_python("-m", "floe_orchestrator_dagster", *arguments, check=check, **environment)


def run_python(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with a clean environment plus ``environment``; output is captured as text."""
    # Dagster without DAGSTER_HOME makes one in the working directory.
    with tempfile.TemporaryDirectory() as working_directory:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=working_directory,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    if check and result.returncode:
        pytest.fail(f"{arguments} exited with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def run_dbt(project: Path, scratch: Path, *arguments: str) -> str:
    """Run dbt itself on a copy of the sample, with a profile written by hand; returns what it printed."""
    output = {"type": "duckdb", "path": str(scratch / "plain_dbt.duckdb")}
    profile = {"retail_orders": {"target": "dev", "outputs": {"dev": output}}}
    (scratch / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    flags = ["--profiles-dir", str(scratch), "--project-dir", str(project), "--target-path", str(scratch / "plain")]
    result = subprocess.run(
        [str(Path(sys.executable).parent / "dbt"), "--quiet", *arguments, *flags],
        cwd=project,
        env=clean_environment(DBT_SEND_ANONYMOUS_USAGE_STATS="false", DBT_LOG_PATH=str(scratch)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if result.returncode:
        pytest.fail(result.stdout + result.stderr)
    return result.stdout


def floe_compile(project: Path, *arguments: str) -> str:
    """Compile ``floe.yaml`` and ``manifest.yaml`` in ``project`` with floe's own command line; returns its output."""
    command = [str(Path(sys.executable).parent / "floe"), "platform", "compile", "--no-lineage-emission"]
    result = subprocess.run(
        [*command, "--spec", "floe.yaml", "--manifest", "manifest.yaml", *arguments],
        cwd=project,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if result.returncode:
        pytest.fail(result.stdout + result.stderr)
    return result.stdout + result.stderr


def dbt_commands(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Name the commands of the dbt processes that a run has started, such as ``build``, from its log."""
    said = (entry.user_message for entry in instance.all_logs(run_id))
    return [text.partition("running dbt ")[2].split()[0] for text in said if text.startswith("running dbt ")]

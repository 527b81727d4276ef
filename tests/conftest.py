"""What all tests share: a clean environment and copies of the sample product."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SAMPLE = REPOSITORY / "dbt_project"
_GENERATED = shutil.ignore_patterns("target", "logs", "warehouse", "dbt_packages", ".user.yml")
_FOREIGN_PREFIXES = ("FLOE_", "DBT_", "DAGSTER_", "OPENLINEAGE_", "OTEL_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test without settings of the machine it runs on."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "true")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Give a fresh copy of the sample product, not yet parsed."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "dbt_project", ignore=_GENERATED))


@pytest.fixture(scope="session")
def _parsed_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parse the sample once for the whole session."""
    project = Path(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("parsed") / "dbt_project", ignore=_GENERATED))
    floe_dagster("prepare", str(project / "compiled_artifacts.json"))
    return project


@pytest.fixture
def prepared_sample(_parsed_sample: Path, tmp_path: Path) -> Path:
    """Give a fresh copy of the sample product with its manifest, as an image build leaves it."""
    return Path(shutil.copytree(_parsed_sample, tmp_path / "dbt_project"))


def floe_dagster(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    return run_python("-m", "floe_orchestrator_dagster", *arguments, check=check, **environment)


def run_python(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with a clean environment plus ``environment``; output is captured as text."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN_PREFIXES)}
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "DAGSTER_DISABLE_TELEMETRY": "true", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if check and result.returncode:
        pytest.fail(f"{arguments} exited with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result

"""Fixtures of all tests: a clean environment and copies of the sample product."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from processes import FOREIGN_PREFIXES, PATCHES, floe_dagster

# Failed assertions of these modules show what differs, as those of tests do.
pytest.register_assert_rewrite("golden_lineage", "openlineage_schemas")

# Hypothesis fails an example after 200 ms and a slow strategy after a second: a busy machine takes longer for nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

REPOSITORY = Path(__file__).parent.parent
SAMPLE = REPOSITORY / "dbt_project"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test without settings of the machine it runs on."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    for name, value in {"DAGSTER_DISABLE_TELEMETRY": "true", **PATCHES}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _definitions_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Dagster take definitions for new ones, although another test has executed a job by reference."""
    module = sys.modules.get("dagster._core.definitions.definitions_load_context")
    if module is not None:
        monkeypatch.setattr(module.DefinitionsLoadContext, "_instance", None, raising=False)
    module = sys.modules.get("dagster._core.definitions.reconstruct")
    if module is not None:  # it keeps the last job, whose product may be that of another test
        module.ReconstructableJob.get_definition.cache_clear()
        module.ReconstructableJob.get_repository_definition.cache_clear()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Give a fresh copy of the sample product, not yet parsed."""
    return _written_sample(tmp_path / "dbt_project")


def _written_sample(directory: Path) -> Path:
    """Write the sample in the form that the installed dbt reads, as ``floe-dagster demo`` does."""
    from floe_orchestrator_dagster.demo import write_demo
    from floe_orchestrator_dagster.product.engines import EngineChoice, find_engine

    return write_demo(directory, find_engine(EngineChoice())).parent


@pytest.fixture(scope="session")
def _parsed_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parse the sample once for the whole session."""
    project = _written_sample(tmp_path_factory.mktemp("parsed") / "dbt_project")
    floe_dagster("prepare", str(project / "compiled_artifacts.json"))
    return project


@pytest.fixture
def prepared_sample(_parsed_sample: Path, tmp_path: Path) -> Path:
    """Give a fresh copy of the sample product with its manifest, as an image build leaves it."""
    return Path(shutil.copytree(_parsed_sample, tmp_path / "dbt_project"))

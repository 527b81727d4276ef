"""Adapters of dbt v2 that are found by starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.errors import EngineError
from floe_orchestrator_dagster.product import adapters
from floe_orchestrator_dagster.product.adapters import require_adapter
from floe_orchestrator_dagster.product.engines import DbtEngine
from floe_orchestrator_dagster.product.profiles import Profile

if TYPE_CHECKING:
    from pathlib import Path

_PROFILE = Profile("shop", "dev", {"dev": {"type": "newdb"}}, "dev", ())
_EXECUTABLE = "plugins.orchestrator.config.dbt.executable"
_FIX = f"\n    fix: Run `dbt parse` with it, and correct {_EXECUTABLE} or install dbt v2 again."


def _engine(directory: Path, script: str) -> DbtEngine:
    file = directory / "dbt"
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return DbtEngine("v2", str(file), "2.0.9")


def test_dbt_is_started_without_the_variables_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH", "DBT_PROFILES_DIR", "DBT_STATE", "DBT_SEND_ANONYMOUS_USAGE_STATS"):
        monkeypatch.setenv(name, str(tmp_path))
    seen = tmp_path / "seen"

    require_adapter(_PROFILE, _engine(tmp_path, f'env | grep ^DBT_ > {seen}; echo "$@" >> {seen}; pwd -P >> {seen}'))

    variables, words, directory = seen.read_text(encoding="utf-8").splitlines()
    assert variables == "DBT_SEND_ANONYMOUS_USAGE_STATS=false"
    assert words == "parse " + " ".join(
        f"--{name} {directory}" for name in ("project-dir", "profiles-dir", "target-path", "log-path")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dbt", "seen"]


def test_dbt_that_does_not_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_PARSE_SECONDS", 1)
    engine = _engine(tmp_path, "exec sleep 60")

    with pytest.raises(EngineError) as raised:
        require_adapter(_PROFILE, engine)

    assert str(raised.value) == (f"{engine.executable}: 1 problem\n  did not parse an empty project within 1 s{_FIX}")


def test_dbt_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    engine = DbtEngine("v2", str(tmp_path / "gone"), "2.0.9")

    with pytest.raises(EngineError) as raised:
        require_adapter(_PROFILE, engine)

    assert str(raised.value) == (
        f"{engine.executable}: 1 problem\n  cannot be started (No such file or directory){_FIX}"
    )

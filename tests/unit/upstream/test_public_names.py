"""Names of dagster, dagster-dbt and dbt that are not public are used in one room only."""

from __future__ import annotations

import ast
import re
import sys
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import pytest

import floe_orchestrator_dagster
from floe_orchestrator_dagster.execution.record.materializations import NODE_ID
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY
from floe_orchestrator_dagster.upstream.dagster_ticks import ticks_after

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(floe_orchestrator_dagster.__file__).parent
_PUBLIC = {
    "dagster",
    "dagster_dbt",
    "dagster_k8s",
    "dagster_postgres",
    # Both as documented for programmatic invocations.
    "dbt.cli.main",
    "dbt_common.events.base_types",
}
_THEIRS = re.compile(r"(dagster|dbt)(_[a-z0-9]+)?(\.|$)")


def _private_names(source: str) -> Iterator[str]:
    """Find the modules of dagster, dagster-dbt and dbt that a module imports and that are not public."""
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Import):
            named = [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom):
            module = part.module or ""
            named = [module] if part.level == 0 else []
            named += [f"{module}.{alias.name}" for alias in part.names if alias.name.startswith("_")]
        elif _takes_module_by_name(part):
            named = [str(argument.value) for argument in part.args if isinstance(argument, ast.Constant)]
        else:
            continue
        yield from (name for name in named if _THEIRS.match(name) and name not in _PUBLIC)


def _takes_module_by_name(part: ast.AST) -> TypeGuard[ast.Call]:
    """Find calls of ``import_module`` and of ``sys.modules.get``."""
    return isinstance(part, ast.Call) and ast.unparse(part.func).endswith(("import_module", "sys.modules.get"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from dagster._core.storage import sqlite", ["dagster._core.storage"]),
        ("import dagster._core", ["dagster._core"]),
        ("from dagster import _check", ["dagster._check"]),
        ("from dagster_shared.serdes import pack_value", ["dagster_shared.serdes"]),
        ("def f():\n    from dbt.flags import get_flags", ["dbt.flags"]),
        ("import importlib\nimportlib.import_module('dbt.graph')", ["dbt.graph"]),
        ("import sys\nsys.modules.get('dbt.adapters.factory')", ["dbt.adapters.factory"]),
        ("from dagster_dbt import dbt_assets\nfrom dbt.cli.main import dbtRunner\nfrom . import dagster_dbt_names", []),
        ("from floe_orchestrator_dagster.assets import dbt", []),
    ],
)
def test_names_that_are_not_public_are_found(source: str, found: list[str]) -> None:
    assert [*_private_names(source)] == found


def test_names_that_are_not_public_are_used_in_upstream_only() -> None:
    modules = [path for path in _PACKAGE.rglob("*.py") if path.relative_to(_PACKAGE).parts[0] != "upstream"]

    found = {
        str(path.relative_to(_PACKAGE)): names
        for path in modules
        if (names := [*_private_names(path.read_text(encoding="utf-8"))])
    }

    assert len(modules) > 100
    assert found == {}


@pytest.mark.parametrize("cron", ["0 6 * * 1-5", "30 1 * * *", ["0 0 * * *", "15 12 1 * *"]])
def test_ticks_without_dagsters_iterator_are_the_same(monkeypatch: pytest.MonkeyPatch, cron: str | list[str]) -> None:
    now = datetime(2026, 3, 27, 12, tzinfo=timezone.utc)  # clocks change on the 29th
    dagsters = [*islice(ticks_after(now, cron, "Europe/Berlin"), 6)]
    monkeypatch.setitem(sys.modules, "dagster._utils.schedules", None)

    assert [*islice(ticks_after(now, cron, "Europe/Berlin"), 6)] == dagsters


def test_materializations_have_the_unique_id_under_the_key_of_dagster_dbt() -> None:
    assert NODE_ID == DAGSTER_DBT_UNIQUE_ID_METADATA_KEY

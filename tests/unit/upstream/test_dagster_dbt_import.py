"""Import of dagster-dbt without dbt: dbt's names still work, and an unknown dagster-dbt is imported unchanged."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from processes import run_python

if TYPE_CHECKING:
    from pathlib import Path

_LOADED = """
import sys, json
import floe_orchestrator_dagster.definitions
loaded = [name for name in sys.modules if name.startswith(("dbt.", "dbt_common"))]

from dagster_dbt import compat, utils
from dagster_dbt.core import resource
from dagster_shared.libraries import DagsterLibraryRegistry
from dbt import node_types
from dbt.contracts import results
stand_ins = (compat.NodeType, compat.NodeStatus, compat.TestStatus)
own = (node_types.NodeType, results.NodeStatus, results.TestStatus)
print(json.dumps({
    "loaded": loaded,
    "versions": [str(module.DBT_PYTHON_VERSION) for module in (compat, utils, resource)],
    "libraries": {name: found for name, found in DagsterLibraryRegistry.get().items() if name.startswith("dbt")},
    "differing": [
        f"{theirs.__name__}.{member.name}"
        for ours, theirs in zip(stand_ins, own)
        for member in theirs
        if hasattr(ours, member.name) and (getattr(ours, member.name) != member or f"{member}" != member.value)
    ],
    "refable": compat.REFABLE_NODE_TYPES == node_types.REFABLE_NODE_TYPES,
}))
"""
_IMPORT = """
import json, logging, sys
logging.basicConfig(level="INFO", stream=sys.stderr)
from floe_orchestrator_dagster.upstream.dagster_dbt_import import import_dagster_dbt
import_dagster_dbt()
import dagster_dbt
from dagster_dbt.compat import DBT_PYTHON_VERSION
hidden = any("Hiding" in type(finder).__name__ for finder in sys.meta_path)
print(json.dumps([dagster_dbt.FOUND, str(DBT_PYTHON_VERSION), hidden]))
"""
_SQLGLOT = """
import json, sys
import floe_orchestrator_dagster.definitions
before = [name for name in sys.modules if name.startswith("sqlglot")]
from dagster_dbt.core import dbt_cli_event as theirs
schema = theirs.MappingSchema(dialect="duckdb")
schema.add_table("orders", {"id": "integer", "amount": "integer"})
query = theirs.optimize(theirs.parse_one("select amount * 2 as doubled from orders"), schema=schema)
[column] = theirs.lineage("doubled", query, schema=schema).downstream
import sqlglot
print(json.dumps({
    "before": before,
    "table": theirs.normalize_table_name(column.expression.find(theirs.exp.Table)),
    "is_own": isinstance(query, sqlglot.exp.Select) and theirs.exp.Table is sqlglot.exp.Table,
    "name": theirs.to_table("main.orders").name,
}))
"""
_ASK = "from dbt.version import __version__ as DBT_PYTHON_VERSION"
_ASK_IN_VAIN = f"try:\n    {_ASK}\nexcept ImportError:\n    DBT_PYTHON_VERSION = None"
_needs_dagster_dbt_without_dbt = pytest.mark.skipif(
    Version(version("dagster-dbt")) < Version("0.29"), reason="this dagster-dbt imports dbt whatever happens"
)


@_needs_dagster_dbt_without_dbt
def test_code_location_is_imported_without_dbt_and_dagster_dbt_knows_which_there_is() -> None:
    found = json.loads(run_python("-c", _LOADED).stdout)

    dbt = version("dbt-core")
    assert found == {
        "loaded": [],
        "versions": [dbt] * 3,
        "libraries": {"dbt-core": dbt},
        "differing": [],
        "refable": True,
    }


@_needs_dagster_dbt_without_dbt
def test_code_location_is_imported_without_sqlglot_which_dagster_dbt_can_use() -> None:
    found = json.loads(run_python("-c", _SQLGLOT).stdout)

    assert found == {"before": [], "table": "orders", "is_own": True, "name": "orders"}


@pytest.mark.parametrize(
    ("compat", "said"),
    [
        (
            _ASK_IN_VAIN,
            "Patch dbt-import is not used: dbt.version is hidden while dagster-dbt is imported.",
        ),
        (
            f"from sqlglot import exp\nTable = exp.Table\n{_ASK_IN_VAIN}",
            "Patch dbt-import is not used: dagster-dbt uses sqlglot.exp while it is imported.",
        ),
        (
            f"import sqlglot.schema\n{_ASK_IN_VAIN}",
            "Patch dbt-import is not used: No module named 'sqlglot.schema'; 'sqlglot' is not a package.",
        ),
        (_ASK, "Patch dbt-import is not used: dagster-dbt has no 'DBT_PYTHON_VERSION = None' in compat.py."),
    ],
    ids=["cannot do without dbt", "uses sqlglot", "imports more of sqlglot", "asks for dbt otherwise"],
)
def test_dagster_dbt_that_is_not_as_known_is_imported_with_dbt(tmp_path: Path, compat: str, said: str) -> None:
    package = tmp_path / "dagster_dbt"
    package.mkdir()
    (package / "compat.py").write_text(compat, encoding="utf-8")
    own = "import dagster_dbt.compat\nfrom dbt.version import __version__ as FOUND"
    (package / "__init__.py").write_text(own, encoding="utf-8")

    ran = run_python("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{_IMPORT}")

    dbt = version("dbt-core")
    assert json.loads(ran.stdout) == [dbt, dbt, False]
    if Version(version("dagster-dbt")) >= Version("0.29"):
        assert said in ran.stderr

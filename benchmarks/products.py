"""Products to measure: the sample, and generated dbt projects of any size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

TESTS_PER_MODEL = 3
COLUMNS_PER_MODEL = 15
LAYER = 50
SAMPLE = Path(__file__).parent.parent / "dbt_project"
_TYPES = {
    "integer": "1",
    "varchar": "'text'",
    "decimal(18, 2)": "1.5",
    "date": "'2026-01-01'",
    "timestamp": "'2026-01-01 12:00:00'",
}
"""A value of each type that columns have."""


def copy_sample(directory: Path) -> Path:
    """Copy the sample product without generated files; return the path of its artifacts."""
    ignored = shutil.ignore_patterns("target", "warehouse", "logs")
    return Path(shutil.copytree(SAMPLE, directory / "sample", ignore=ignored)) / "compiled_artifacts.json"


def generate_product(directory: Path, size: int) -> Path:
    """Write a dbt project of ``size`` models in layers of fifty, each reading two of the layer below.

    Models are written as people write them: a CTE per table that is read, one that names and casts each column, and a
    final select; about two kilobytes of SQL, fifteen described columns and three tests.
    """
    project = directory / f"generated_{size}"
    models = project / "models"
    models.mkdir(parents=True)
    settings = {"name": "generated", "version": "1.0", "profile": "generated", "models": {"+materialized": "table"}}
    (project / "dbt_project.yml").write_text(json.dumps(settings), encoding="utf-8")
    for number in range(size):
        (models / f"model_{number:05}.sql").write_text(_sql(number), encoding="utf-8")
    properties = [_properties(number) for number in range(size)]
    (models / "models.json.yml").write_text(json.dumps({"version": 2, "models": properties}), encoding="utf-8")
    artifacts = json.loads((SAMPLE / "compiled_artifacts.json").read_text(encoding="utf-8"))
    declared = [{"name": entry["name"], "compute": "duckdb", "quality_tier": "gold"} for entry in properties]
    artifacts["transforms"] = {"models": declared, "default_compute": "duckdb"}
    # Each measurement sets the backend; without one, nothing is sent.
    artifacts["observability"]["lineage"] = True
    path = project / "compiled_artifacts.json"
    path.write_text(json.dumps(artifacts), encoding="utf-8")
    return path


def prepare(artifacts: Path) -> None:
    """Make the product's manifest, as an image build does."""
    command = [sys.executable, "-m", "floe_orchestrator_dagster", "prepare", str(artifacts)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _sql(number: int) -> str:
    parents = [number - LAYER, number - LAYER + 1] if number >= LAYER else []
    reads = [f"    select * from {{{{ ref('model_{parent:05}') }}}}" for parent in parents]  # noqa: S608  # own names
    # All have the one row, so that a table of the last layer is as small as one of the first.
    rows = "\n    union\n".join(reads) or f"    select {_first_row()}"
    named = ",\n".join(
        f"        -- column {column} as the source has it, without surrounding blanks\n"
        f"        cast(nullif(trim(cast(source.column_{column} as varchar)), '') as {_type(column)}) as column_{column}"
        for column in range(COLUMNS_PER_MODEL)
    )
    final = ",\n".join(f"    named.column_{column}" for column in range(COLUMNS_PER_MODEL))
    return f"""with

source as (
{rows}
),

named as (
    select
{named}
    from source
)

select
{final}
from named
"""  # noqa: S608  # as above


def _first_row() -> str:
    types = map(_type, range(COLUMNS_PER_MODEL))
    return ", ".join(f"cast({_TYPES[name]} as {name}) as column_{column}" for column, name in enumerate(types))


def _type(column: int) -> str:
    return [*_TYPES][column % len(_TYPES)]


def _properties(number: int) -> dict[str, object]:
    columns: list[dict[str, object]] = [
        {
            "name": f"column_{column}",
            "data_type": _type(column),
            "description": f"Column {column} of model {number}.",
            **({"data_tests": ["not_null"]} if column < TESTS_PER_MODEL else {}),
        }
        for column in range(COLUMNS_PER_MODEL)
    ]
    return {"name": f"model_{number:05}", "description": f"Generated model {number}.", "columns": columns}

"""Products to measure: the sample, and generated dbt projects of any size in three shapes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from real_shape import made_project
from real_shape_files import write_project

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS_PER_MODEL = 3
COLUMNS_PER_MODEL = 15
LAYER = 50
SAMPLE = Path(__file__).parent.parent / "dbt_project"
SHAPES = ("real", "regular", "thin", "sample")
"""Shapes of products, in the order of tables."""
_SHAPE = re.compile(r"(?:(real|regular|thin)-)?(\d+)")
_TYPES = {
    "integer": "1",
    "varchar": "'text'",
    "decimal(18, 2)": "1.5",
    "date": "'2026-01-01'",
    "timestamp": "'2026-01-01 12:00:00'",
}
"""A value of each type that columns have."""


@dataclass(frozen=True)
class Shape:
    """Shape and size of a product.

    Attributes:
        name: ``real``: sizes and distributions of a large public project (``real_shape.py``). ``regular``: 2.5 to 3 kB
            of SQL, fifteen described columns, three tests and two parents for each model. ``thin``: one line of SQL,
            three columns, three tests and two parents. ``sample``: the sample product.
        models: Number of models; 0 for the sample product.
    """

    name: str
    models: int

    @classmethod
    def parsed(cls, text: str) -> Shape:
        """Read ``real-2300``, ``thin-500``, ``500`` (regular) or ``0`` (the sample product)."""
        matched = _SHAPE.fullmatch(text)
        if matched is None:
            raise ValueError(text)
        models = int(matched[2])
        return cls(matched[1] or "regular", models) if models else cls("sample", 0)

    def __str__(self) -> str:
        return {"sample": "sample", "regular": str(self.models)}.get(self.name, f"{self.models} ({self.name})")

    @property
    def rank(self) -> tuple[int, int]:
        """Place in a table."""
        return SHAPES.index(self.name), self.models

    def write(self, directory: Path) -> Path:
        """Write the product into ``directory``; return the path of its artifacts."""
        if self.name == "sample":
            return copy_sample(directory)
        write = {"real": generate_real_product, "thin": generate_thin_product, "regular": generate_product}
        return write[self.name](directory, self.models)


def copy_sample(directory: Path) -> Path:
    """Copy the sample product without generated files; return the path of its artifacts."""
    ignored = shutil.ignore_patterns("target", "warehouse", "logs")
    return Path(shutil.copytree(SAMPLE, directory / "sample", ignore=ignored)) / "compiled_artifacts.json"


def generate_product(directory: Path, size: int) -> Path:
    """Write a dbt project of ``size`` models in layers of fifty, each reading two of the layer below.

    Models are written as people write them: a CTE per table that is read, one that names and casts each column, and a
    final select; about two kilobytes of SQL, fifteen described columns and three tests.
    """
    models = [(_sql(number), _properties(number)) for number in range(size)]
    return _write_regular(directory / f"generated_{size}", models)


def generate_thin_product(directory: Path, size: int) -> Path:
    """Write a dbt project of ``size`` models with three columns, three tests and one line of SQL each."""
    models = [(_thin_sql(number), _thin_properties(number)) for number in range(size)]
    return _write_regular(directory / f"thin_{size}", models)


def generate_real_product(directory: Path, size: int) -> Path:
    """Write a dbt project of ``size`` models with the sizes and distributions of a large public project."""
    project = directory / f"real_{size}"
    return _write_artifacts(project, write_project(made_project(size), project))


def prepare(artifacts: Path) -> None:
    """Make the product's manifest, as an image build does."""
    command = [sys.executable, "-m", "floe_orchestrator_dagster", "prepare", str(artifacts)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write_regular(project: Path, generated: list[tuple[str, dict[str, object]]]) -> Path:
    models = project / "models"
    models.mkdir(parents=True)
    settings = {"name": "generated", "version": "1.0", "profile": "generated", "models": {"+materialized": "table"}}
    (project / "dbt_project.yml").write_text(json.dumps(settings), encoding="utf-8")
    for sql, entry in generated:
        (models / f"{entry['name']}.sql").write_text(sql, encoding="utf-8")
    content = {"version": 2, "models": [entry for _, entry in generated]}
    (models / "models.json.yml").write_text(json.dumps(content), encoding="utf-8")
    return _write_artifacts(project, [{"name": entry["name"], "quality_tier": "gold"} for _, entry in generated])


def _write_artifacts(project: Path, models: Iterable[dict[str, object]]) -> Path:
    artifacts = json.loads((SAMPLE / "compiled_artifacts.json").read_text(encoding="utf-8"))
    declared = [{"compute": "duckdb", **model} for model in models]
    artifacts["transforms"] = {"models": declared, "default_compute": "duckdb"}
    # Each measurement sets the backend; without one, nothing is sent.
    artifacts["observability"]["lineage"] = True
    path = project / "compiled_artifacts.json"
    path.write_text(json.dumps(artifacts), encoding="utf-8")
    return path


def _parents(number: int) -> list[int]:
    return [number - LAYER, number - LAYER + 1] if number >= LAYER else []


def _sql(number: int) -> str:
    reads = [f"    select * from {{{{ ref('model_{parent:05}') }}}}" for parent in _parents(number)]  # noqa: S608  # own names
    # All have the one row, so that a table of the last layer is as small as one of the first.
    rows = "\n    union\n".join(reads) or f"    select {_first_row(COLUMNS_PER_MODEL)}"
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


def _thin_sql(number: int) -> str:
    reads = [f"select * from {{{{ ref('model_{parent:05}') }}}}" for parent in _parents(number)]  # noqa: S608  # own names
    return (" union ".join(reads) or f"select {_first_row(TESTS_PER_MODEL)}") + "\n"


def _first_row(columns: int) -> str:
    types = map(_type, range(columns))
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


def _thin_properties(number: int) -> dict[str, object]:
    columns = [{"name": f"column_{column}", "data_tests": ["not_null"]} for column in range(TESTS_PER_MODEL)]
    return {"name": f"model_{number:05}", "columns": columns}

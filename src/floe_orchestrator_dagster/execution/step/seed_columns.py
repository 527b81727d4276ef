"""Columns of built seeds from the first line of their files, for engines that report no columns."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.product.project import ProjectDirectory


def with_seed_columns(result: NodeResult, node: Mapping[str, Any], project: ProjectDirectory) -> NodeResult:
    """Return a result with the columns of its seed, in the order of the file, if the engine has reported none.

    Args:
        result: The result of any node.
        node: The node in dbt's manifest.
        project: The dbt project.
    """
    if result.resource_type != "seed" or not result.was_built or result.columns:
        return result
    config = node.get("config") or {}
    delimiter, types = config.get("delimiter") or ",", config.get("column_types") or {}
    names = next((found for path in _files(node, project) if (found := _header(path, str(delimiter)))), [])
    return replace(result, columns={name: str(types.get(name) or "") for name in names}) if names else result


def _files(node: Mapping[str, Any], project: ProjectDirectory) -> list[Path]:
    """List the possible places of a seed's file: in the project, or in the package that has it."""
    relative = str(node.get("original_file_path") or "")
    of_package = project.packages_path / str(node.get("package_name")) / relative
    return [project.path / relative, of_package] if relative else []


def _header(path: Path, delimiter: str) -> list[str]:
    """Read the first line of a CSV file; empty if that fails, because dbt has read the file in its own way."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=delimiter), [])
    except (OSError, ValueError, TypeError, csv.Error):
        return []

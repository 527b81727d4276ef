"""Matching of the tables that a product's ingestion writes with the sources of its dbt project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_core.schemas.compiled_artifacts import IngestionOutputTable


@dataclass(frozen=True)
class IngestionMatches:
    """Ingestion outputs matched with dbt sources.

    Attributes:
        by_source: The output that writes each matched source, by the source's unique id.
        unmatched: Outputs without a source in the dbt project.
    """

    by_source: Mapping[str, IngestionOutputTable]
    unmatched: tuple[IngestionOutputTable, ...]


def match_ingestion_outputs(outputs: Sequence[IngestionOutputTable], manifest: Mapping[str, Any]) -> IngestionMatches:
    """Match outputs with sources by the table in the warehouse or the name in dbt, case-insensitively."""
    by_table = {
        table.lower(): output for output in reversed(outputs) for table in (output.logical_table, output.physical_table)
    }
    by_source = {}
    for unique_id, source in manifest["sources"].items():
        table = f"{source.get('schema')}.{source.get('identifier') or source['name']}".lower()
        named = f"{source['source_name']}.{source['name']}".lower()
        output = by_table.get(table) or by_table.get(named)
        if output is not None:
            by_source[unique_id] = output
    matched = {output.physical_table for output in by_source.values()}
    return IngestionMatches(by_source, tuple(output for output in outputs if output.physical_table not in matched))

"""Stages that build the dbt functions (UDFs) that no asset and no test calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.product.references import functions_called, uncalled_functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from floe_orchestrator_dagster.assets.stages import Stage
    from floe_orchestrator_dagster.product.manifest import Manifest


def uncalled_by_stage(
    manifest: Manifest, stages: Sequence[Stage], tables: Mapping[str, str], callers: Iterable[str]
) -> list[frozenset[str]]:
    """Return for each stage the functions that it builds although none of ``callers`` calls them.

    A function is built in the first stage that comes after all tables that it reads, with the functions that it calls.
    If the tables are in stages that do not depend on each other, it is built in the last of these stages.

    Args:
        manifest: The dbt manifest.
        stages: The stages, in the order of their dependencies.
        tables: The model that builds the table of a source, by the source's unique id.
        callers: Unique ids of assets and tests.
    """
    found: list[set[str]] = [set() for _ in stages]
    functions = sorted(uncalled_functions(manifest.content, callers)) if stages else []
    if functions:
        row_of = {unique_id: row for row, stage in enumerate(stages) for unique_id in stage.nodes}
        earlier = _earlier_stages(manifest, stages, tables, row_of)
        for function in functions:
            read = _stages_read(manifest, function, tables, row_of)
            row = next((row for row, known in enumerate(earlier) if read <= known), max(read, default=0))
            found[row] |= {function, *functions_called(manifest.content, function)}
    return [frozenset(built) for built in found]


def _earlier_stages(
    manifest: Manifest, stages: Sequence[Stage], tables: Mapping[str, str], row_of: Mapping[str, int]
) -> list[set[int]]:
    """Return for each stage its own index and those of the stages that it waits for."""
    earlier: list[set[int]] = []
    for row, stage in enumerate(stages):
        read = set[int]().union(*(_stages_read(manifest, node, tables, row_of) for node in stage.nodes)) - {row}
        earlier.append({row}.union(*(earlier[other] for other in read)))
    return earlier


def _stages_read(manifest: Manifest, unique_id: str, tables: Mapping[str, str], row_of: Mapping[str, int]) -> set[int]:
    read = (tables.get(table, table) for table in manifest.relations_read_by(unique_id))
    return {row_of[table] for table in read if table in row_of}

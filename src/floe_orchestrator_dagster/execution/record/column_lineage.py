"""Column lineage of a built table as Dagster's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage


def table_column_lineage(found: ColumnLineage, key_of: Mapping[str, dg.AssetKey]) -> dg.TableColumnLineage | None:
    """Convert column lineage to Dagster's type; None when no column comes from an asset.

    Args:
        found: The column lineage.
        key_of: Asset key of every model, seed, snapshot and served source, by unique id.
    """
    # Several sources can have the same key, and Dagster accepts each column of a key only once.
    deps = {
        column: list(
            dict.fromkeys(dg.TableColumnDep(key_of[parent], name) for parent, name in inputs if parent in key_of)
        )
        for column, inputs in found.direct.items()
    }
    known = {column: inputs for column, inputs in deps.items() if inputs}
    return dg.TableColumnLineage(known) if known else None

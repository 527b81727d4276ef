"""Column lineage of a table that was built, as Dagster's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage


def table_column_lineage(found: ColumnLineage, key_of: Mapping[str, dg.AssetKey]) -> dg.TableColumnLineage | None:
    """Show the columns that each column of a table takes its values from; None where they come from no asset.

    Args:
        found: Where they come from.
        key_of: Key of every model, seed, snapshot and source, by unique id.
    """
    # Several sources may have one key, and Dagster accepts each column of a key once.
    deps = {
        column: list(
            dict.fromkeys(dg.TableColumnDep(key_of[parent], name) for parent, name in inputs if parent in key_of)
        )
        for column, inputs in found.direct.items()
    }
    known = {column: inputs for column, inputs in deps.items() if inputs}
    return dg.TableColumnLineage(known) if known else None

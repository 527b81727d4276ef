"""Column lineage of a relation.

It refers to tables by dbt's unique ids, and is converted to both OpenLineage's facet and Dagster's column metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.lineage.columns.transformations import Transformation


@dataclass(frozen=True)
class InputColumn:
    """A column on which output columns depend.

    Attributes:
        unique_id: dbt's unique id of the model, seed, snapshot or source with the column.
        column: Its name, with the letter case of the relation's columns when these are known.
        transformations: The kinds of dependency, sorted.
    """

    unique_id: str
    column: str
    transformations: tuple[Transformation, ...]

    @property
    def is_direct(self) -> bool:
        """Whether the output contains its value, transformed or not."""
        return any(transformation.type == "DIRECT" for transformation in self.transformations)


@dataclass(frozen=True)
class ColumnLineage:
    """The input columns of one relation's columns.

    Attributes:
        fields: Inputs of each output column, in the order of the output. An output column without inputs (a literal,
            a row number) is left out.
        dataset: Inputs that determine the rows: of joins, filters, groups and orders.
    """

    fields: Mapping[str, tuple[InputColumn, ...]] = field(default_factory=lambda: MappingProxyType({}))
    dataset: tuple[InputColumn, ...] = ()

    @property
    def columns_read(self) -> Mapping[str, tuple[str, ...]]:
        """The distinct columns that are read, by unique id."""
        read: dict[str, dict[str, None]] = {}
        for columns in (*self.fields.values(), self.dataset):
            for column in columns:
                read.setdefault(column.unique_id, {})[column.column] = None
        return {unique_id: tuple(names) for unique_id, names in read.items()}

    @property
    def direct(self) -> dict[str, list[tuple[str, str]]]:
        """The direct inputs of each output column, as (unique id, column).

        This is for Dagster's ``dagster/column_lineage``, whose ``TableColumnDep`` has no kinds of dependency.
        """
        kept = {
            name: [(column.unique_id, column.column) for column in columns if column.is_direct]
            for name, columns in self.fields.items()
        }
        return {name: columns for name, columns in kept.items() if columns}

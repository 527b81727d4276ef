"""Column lineage of a relation, with the kinds of dependency that OpenLineage names.

The lineage refers to tables by dbt's unique ids. It is converted to OpenLineage's facet and to Dagster's metadata.

Types and subtypes: https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Subtype = Literal[
    "IDENTITY", "TRANSFORMATION", "AGGREGATION", "JOIN", "GROUP_BY", "FILTER", "SORT", "WINDOW", "CONDITIONAL"
]
# In ascending order of precedence: an aggregate of a transformed value is an aggregation.
_DIRECT: tuple[Subtype, ...] = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")
_SAME_VALUE = (exp.Alias, exp.Paren)
_COUNTS = (exp.Count, exp.CountIf, exp.ApproxDistinct)
_HASHES = (exp.MD5, exp.MD5Digest, exp.SHA, exp.SHA2)
_HASH_FUNCTIONS = frozenset({"hash", "xxhash64", "farm_fingerprint", "murmur_hash", "sha1_hex", "sha2_hex", "sha256"})


@dataclass(frozen=True, order=True)
class Transformation:
    """A dependency of an output column, or of all output columns, on an input column.

    Attributes:
        subtype: IDENTITY, TRANSFORMATION or AGGREGATION (direct: the output contains the value), or the part of the
            query that the value influences: join, filter, group, sort, window or condition (indirect).
        masking: Whether the output hides the input's value, as a hash or a count does.
    """

    subtype: Subtype
    masking: bool = False

    @property
    def type(self) -> Literal["DIRECT", "INDIRECT"]:
        """DIRECT when the output contains the value, else INDIRECT."""
        return "DIRECT" if self.subtype in _DIRECT else "INDIRECT"

    def after(self, inner: Transformation) -> Transformation:
        """Combine with an earlier transformation, closer to the input."""
        masking = self.masking or inner.masking
        if self.type == "INDIRECT":
            return Transformation(self.subtype, masking)
        if inner.type == "INDIRECT":
            return Transformation(inner.subtype, masking)
        return Transformation(max(self.subtype, inner.subtype, key=_DIRECT.index), masking)


IDENTITY = Transformation("IDENTITY")


def uses(expression: exp.Expr, how: Transformation = IDENTITY) -> Iterator[tuple[exp.Expr, Transformation]]:
    """Find the columns and subqueries of an expression, each with its transformation; none inside of subqueries."""
    waiting = [(expression, how)]
    while waiting:
        node, way = waiting.pop()
        if isinstance(node, (exp.Column, exp.Query)):
            yield node, way
        elif isinstance(node, _SAME_VALUE):
            waiting.append((node.this, way))
        else:
            masking = _masks(node)
            children = [(child, way.after(Transformation(subtype, masking))) for child, subtype in _children(node)]
            waiting += reversed(children)


def _children(node: exp.Expr) -> Iterator[tuple[exp.Expr, Subtype]]:
    special = _special_inputs(type(node))  # type: ignore[arg-type]  # mypy looks at instances' __hash__
    default: Subtype = "IDENTITY" if _is_shared_key(node) else _default(type(node))  # type: ignore[arg-type]  # as above
    for name, value in node.args.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.If) and isinstance(node, exp.Case):
                yield from _children(child)
            elif isinstance(child, exp.Order) and isinstance(node, exp.WithinGroup):
                yield from ((ordered, "AGGREGATION") for ordered in child.expressions)
            elif isinstance(child, exp.Expression):
                yield child, special.get(name, default)


@cache
def _special_inputs(kind: type[exp.Expr]) -> Mapping[str, Subtype]:
    return next((inputs for special, inputs in _INPUTS.items() if issubclass(kind, special)), {})


@cache
def _default(kind: type[exp.Expr]) -> Subtype:
    return "AGGREGATION" if issubclass(kind, exp.AggFunc) else "TRANSFORMATION"


def _is_shared_key(node: exp.Expr) -> bool:
    """Return whether this is the column of ``join … using (column)``: sqlglot writes it as a coalesce of both sides."""
    columns = [node.this, *node.expressions] if isinstance(node, exp.Coalesce) else []
    names = {column.name if isinstance(column, exp.Column) else None for column in columns}
    return len(names) == 1 and None not in names


# Inputs of an expression whose kind of dependency differs from the expression's default.
_INPUTS: dict[type[exp.Expr], dict[str, Subtype]] = {
    exp.Case: {"this": "CONDITIONAL"},
    exp.If: {"this": "CONDITIONAL"},
    exp.Filter: {"this": "IDENTITY", "expression": "FILTER"},
    exp.Window: {"this": "IDENTITY", "partition_by": "WINDOW", "order": "WINDOW"},
    exp.WithinGroup: {"this": "IDENTITY"},
    exp.Order: {"this": "IDENTITY", "expressions": "SORT"},
}


def _masks(node: exp.Expr) -> bool:
    is_hash = isinstance(node, _HASHES) or (isinstance(node, exp.Anonymous) and node.name.lower() in _HASH_FUNCTIONS)
    return is_hash or isinstance(node, _COUNTS)


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
        output: All columns of the output in their order, with or without inputs; empty when they are unknown.
    """

    fields: Mapping[str, tuple[InputColumn, ...]] = field(default_factory=lambda: MappingProxyType({}))
    dataset: tuple[InputColumn, ...] = ()
    output: tuple[str, ...] = ()

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

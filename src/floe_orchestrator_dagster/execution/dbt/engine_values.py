"""Values that an engine yields while dbt runs: nodes, hooks, counts, names of tables, messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FailedHook:
    """A failed on-run hook. dbt reports hooks with other events than nodes.

    Attributes:
        name: dbt's name of the hook: package, kind and index, such as ``shop.on-run-end.0``.
        file: The file with the hook.
        message: dbt's message without colours.
    """

    name: str
    file: str
    message: str


@dataclass(frozen=True)
class NodeCount:
    """Number of nodes in the invocation.

    Attributes:
        count: The number, without ephemeral models and unit tests.
        has_all: Whether the number includes ephemeral models and unit tests.
    """

    count: int
    has_all: bool = False


@dataclass(frozen=True)
class TableNames:
    """Names of all tables in this run's environment: fields of a manifest's node, by unique id."""

    relations: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TableColumns:
    """Columns of tables that have been built, where they are known only once dbt has ended.

    Attributes:
        columns: Type by name of all columns, by the table's unique id.
    """

    columns: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class NothingMatched:
    """A selection, or several separated by spaces, that matches no node."""

    selection: str


@dataclass(frozen=True)
class DbtWarning:
    """A warning in dbt's log."""

    message: str


@dataclass(frozen=True)
class NodeError:
    """An error of a node in dbt's log."""

    unique_id: str
    message: str


EngineValue = (
    NodeStart
    | NodeResult
    | FailedHook
    | NodeCount
    | TableNames
    | TableColumns
    | NothingMatched
    | DbtWarning
    | NodeError
)

"""Values that an engine yields while dbt runs: nodes, hooks, counts, names of tables, messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult, NodeStart

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FailedHook:
    """An on-run hook that failed; dbt does not report hooks as it reports nodes.

    Attributes:
        name: dbt's name of it: package, kind, and row from 0, such as ``shop.on-run-end.0``.
        file: The file that declares it.
        message: dbt's message without colours.
    """

    name: str
    file: str
    message: str


@dataclass(frozen=True)
class NodeCount:
    """How many nodes dbt is going to run.

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
    """A selection for which dbt found no node."""

    selection: str


@dataclass(frozen=True)
class DbtWarning:
    """A warning in dbt's log."""

    message: str


@dataclass(frozen=True)
class NodeError:
    """An error in dbt's log that names a node."""

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

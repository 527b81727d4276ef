"""Matching of the artifacts' data contracts (Open Data Contract Standard) and ingestion outputs with the dbt project.

Format: https://bitol-io.github.io/open-data-contract-standard/latest/
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from floe_orchestrator_dagster.errors import ArtifactsError, Problem
from floe_orchestrator_dagster.product.manifest import declared_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_core.schemas.compiled_artifacts import IngestionOutputTable
    from floe_core.schemas.data_contract import DataContract, SchemaObject, ServiceLevelAgreementProperty


_FRESHNESS = "freshness"
_DAYS = dict.fromkeys(("d", "day", "days"), 1) | dict.fromkeys(("y", "yr", "year", "years"), 365)
_SECONDS = (
    dict.fromkeys(("h", "hr", "hour", "hours"), 3600)
    | dict.fromkeys(("min", "minute", "minutes"), 60)
    | dict.fromkeys(("s", "sec", "second", "seconds"), 1)
)
_SHORTEST = timedelta(minutes=1)  # the shortest freshness window that Dagster accepts
_DURATION = TypeAdapter(timedelta)


@dataclass(frozen=True)
class TableContract:
    """The part of a data contract about one table.

    Attributes:
        contract: The whole contract.
        table: The schema object.
        where: Its place in the artifacts, such as ``data_contracts[0].schema[1]``.
        freshness: Maximum age of the data (SLA property ``freshness``); None when the contract declares none.
    """

    contract: DataContract
    table: SchemaObject
    where: str
    freshness: timedelta | None

    @property
    def names(self) -> frozenset[str]:
        """The table's names in lower case; the physical name has database and schema if the contract has them."""
        return frozenset(name.lower() for name in (self.table.physicalName, self.table.name) if name)

    @property
    def owners(self) -> list[str]:
        """The team and its current members: those with the role of an owner, or all when none has it."""
        team = self.contract.team
        listed = team if isinstance(team, list) else (team.members if team else None) or []
        members = [member for member in listed if member.dateOut is None and (member.username or member.name)]
        owning = [member for member in members if "owner" in (member.role or "").lower()]
        name = None if team is None or isinstance(team, list) else team.name
        people = [member.username or member.name or "" for member in owning or members]
        return [*([f"team:{name}"] if name else []), *people]

    @property
    def classifications(self) -> list[str]:
        """Distinct classifications of the table's columns."""
        columns = self.table.properties or []
        return sorted({column.classification for column in columns if column.classification})


@dataclass(frozen=True)
class ContractMatches:
    """Table contracts matched with dbt nodes.

    Attributes:
        by_node: The contract of each node that has one, by unique id.
        unmatched: Contracts of tables that the dbt project does not have.
    """

    by_node: Mapping[str, TableContract]
    unmatched: tuple[TableContract, ...]


def read_table_contracts(contracts: Sequence[DataContract], origin: str) -> list[TableContract]:
    """Split the artifacts' data contracts into one contract per table.

    Raises:
        ArtifactsError: The freshness of some contracts is not a duration. The message lists all.
    """
    problems: list[Problem] = []
    tables = []
    for row, contract in enumerate(contracts):
        promised = list(_freshness(contract, f"data_contracts[{row}]", problems))
        for column, table in enumerate(contract.schema_ or []):
            windows = [window for element, window in promised if _applies(element, table, contract)]
            where = f"data_contracts[{row}].schema[{column}]"
            tables.append(TableContract(contract, table, where, min(windows, default=None)))
    if problems:
        raise ArtifactsError(origin, problems)
    return tables


def match_table_contracts(tables: Sequence[TableContract], manifest: Mapping[str, Any]) -> ContractMatches:
    """Match contracts with models, seeds, snapshots and sources.

    Names are compared case-insensitively: ``physicalName`` (with or without database and schema) and ``name`` with the
    table's names in the warehouse and in dbt. Where a model and a source have the same name, the model matches first.
    """
    by_name = {name: table for table in reversed(tables) for name in table.names}
    by_node: dict[str, TableContract] = {}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] in {"model", "seed", "snapshot"}:
            _match(unique_id, _node_names(node), by_name, by_node)
    taken = {table.where for table in by_node.values()}
    left = {name: table for name, table in by_name.items() if table.where not in taken}
    for unique_id, source in manifest["sources"].items():
        _match(unique_id, _source_names(source), left, by_node)
    matched = {table.where for table in by_node.values()}
    return ContractMatches(by_node, tuple(table for table in tables if table.where not in matched))


def contract_of(tables: Sequence[TableContract], *names: str) -> TableContract | None:
    """Return the first contract that matches one of the names of a model, or of a table such as ``raw.orders``."""
    every = [name.lower() for full in names for name in (full, full.rpartition(".")[2])]
    return next((table for name in every for table in tables if name in table.names), None)


def contract_problems(unmatched: Sequence[TableContract]) -> list[Problem]:
    """Return a warning for each contract whose table the product does not have."""
    return [
        Problem(
            table.where,
            f"{table.table.physicalName or table.table.name!r} is not a model, seed, snapshot or source of dbt",
            "Correct `name` or `physicalName` in the data contract, or remove the table from it.",
        )
        for table in unmatched
    ]


def _match(
    unique_id: str, names: Sequence[str], by_name: Mapping[str, TableContract], by_node: dict[str, TableContract]
) -> None:
    table = next((by_name[name.lower()] for name in names if name.lower() in by_name), None)
    if table is not None:
        by_node[unique_id] = table


def _node_names(node: Mapping[str, Any]) -> list[str]:
    return [*_qualified(node.get("database"), node.get("schema"), node.get("alias")), *declared_names(node)]


def _source_names(source: Mapping[str, Any]) -> list[str]:
    table = source.get("identifier") or source["name"]
    qualified = _qualified(source.get("database"), source.get("schema"), table)
    return [*qualified, f"{source['source_name']}.{source['name']}", source["name"]]


def _qualified(database: str | None, schema: str | None, table: str | None) -> list[str]:
    if not table:
        return []
    parts = [part for part in (database, schema) if part]
    return [".".join([*parts[start:], table]) for start in range(len(parts) + 1)]


def _freshness(contract: DataContract, where: str, problems: list[Problem]) -> Iterator[tuple[str | None, timedelta]]:
    for row, promise in enumerate(contract.slaProperties or []):
        if (promise.property or "").lower() == _FRESHNESS:
            window = _duration(promise)
            if window is None or window < _SHORTEST:
                problems.append(_duration_problem(promise, f"{where}.slaProperties[{row}].value"))
            else:
                yield promise.element, window


def _duration(promise: ServiceLevelAgreementProperty) -> timedelta | None:
    """Parse ``PT6H``, or ``6`` with a unit. Months are not accepted: their length varies."""
    value, unit = str(promise.value).strip(), (promise.unit or "").strip().lower()
    try:
        if value.startswith("P"):
            return _DURATION.validate_python(value)
        return float(value) * (timedelta(days=_DAYS[unit]) if unit in _DAYS else timedelta(seconds=_SECONDS[unit]))
    except (ValidationError, ValueError, KeyError, OverflowError):
        return None


def _duration_problem(promise: ServiceLevelAgreementProperty, where: str) -> Problem:
    unit = f" with unit {promise.unit!r}" if promise.unit else ""
    return Problem(
        where,
        f"{promise.value!r}{unit} is not a duration of at least one minute",
        "Write it as ISO 8601 (PT6H, P1D), or as a number with unit min, h, d or y; then compile again.",
    )


def _applies(element: str | None, table: SchemaObject, contract: DataContract) -> bool:
    """Return whether an SLA applies to a table: its elements (``table.column,…``) name this table or no table."""
    tables = {name.lower() for entry in contract.schema_ or [] for name in (entry.name, entry.physicalName) if name}
    named = {part.strip().lower() for part in (element or "").split(",")}
    named |= {part.rpartition(".")[0] for part in named}
    own = {name.lower() for name in (table.name, table.physicalName) if name}
    return not named & tables or bool(named & own)


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

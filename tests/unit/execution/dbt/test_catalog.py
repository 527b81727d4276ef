"""Catalogs of warehouses, read from the answers of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.execution.dbt.catalog import (
    Catalog,
    DatabaseState,
    loading_time,
    query_catalog,
    relations_of,
    table_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NODE = {"database": "Shop", "schema": "main", "alias": "Orders"}
SOURCE = {"database": "Shop", "schema": "landing", "identifier": "raw", "name": "r", "loaded_at_field": "loaded_at"}
ROWS = [
    ["main", "orders", "BASE TABLE", "id", "integer"],
    ["main", "orders", "BASE TABLE", "amount", "numeric(10,2)"],
    ["main", "shown", "VIEW", "id", "integer"],
]


@dataclass
class Engine:
    """An engine with prepared answers or errors, by the kind of the question."""

    replies: Mapping[str, Any]
    asked: list[Sequence[str | None]] = field(default_factory=list)

    def answers(self, _question: str, tables: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, Any, str]]:
        for name, table in tables.items():
            self.asked.append(table)
            reply = self.replies[str(table[0]) if table[0] != "rows" else name]
            yield (name, None, reply) if isinstance(reply, str) else (name, reply, "")


IDENTITIES = "identities of tables"


def ask(adapter: str = "postgres", replies: Mapping[str, object] | None = None) -> Catalog:
    usual = {
        "relations": ROWS,
        "newest": ["2026-01-01", "5"],
        IDENTITIES: [["main", "orders", "1/1"], ["main", "shown", "2/0"]],
        "state of the database": [["16384", "750"]],
    }
    engine: Any = Engine({**usual, **(replies or {})})
    return query_catalog(engine, adapter, [NODE, SOURCE], {"source.s.r": SOURCE})


def test_catalog_has_kinds_columns_and_identities() -> None:
    found = ask()

    assert {name: (one.kind, one.identity) for name, one in found.relations.items()} == {
        ("shop", "main", "orders"): ("table", "1/1"),
        ("shop", "main", "shown"): ("view", "2/0"),
    }
    assert found.state == DatabaseState("16384", 750)
    assert found.newest == {"source.s.r": "2026-01-01 5"}
    assert found.is_known(table_name(NODE))
    assert not found.is_known(("other", "main", "orders"))


def test_shape_changes_with_columns_types_and_identity() -> None:
    def shape(rows: list[list[str]], identity: str = "1/1") -> str:
        found = ask(replies={IDENTITIES: [["main", "orders", identity]], "relations": rows})
        return found.relations[table_name(NODE)].shape

    usual = shape(ROWS)
    other_type = [*ROWS[:1], [*ROWS[1][:4], "numeric(12,2)"]]
    assert shape([*ROWS]) == usual
    assert len({usual, shape(ROWS[:1]), shape(other_type), shape([ROWS[1], ROWS[0]]), shape(ROWS, "3/3")}) == 5


def test_nothing_is_known_without_the_identities_of_postgres() -> None:
    error = "permission denied"

    found = ask(replies={IDENTITIES: error})

    assert (found.relations, found.databases, found.newest) == ({}, frozenset(), {})
    assert found.errors == {IDENTITIES: error}


def test_other_adapters_are_not_asked_for_identities() -> None:
    found = ask("snowflake")

    assert (found.state, {one.identity for one in found.relations.values()}) == (None, {""})
    assert found.is_known(table_name(NODE))


def test_tables_of_a_database_that_cannot_be_asked_are_not_known() -> None:
    found = ask("spark", {"relations": "get_catalog not implemented for spark"})

    assert not found.is_known(table_name(NODE))
    assert found.errors == {"Shop": "get_catalog not implemented for spark"}
    assert found.newest == {"source.s.r": "2026-01-01 5"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (["2026-01-01", "filter"], "2026-01-01 filter"),
        (["2026-01-01", "query"], "2026-01-01 query"),
        ([None, "0"], "None 0"),
        ([None, "3"], None),  # rows without a time
        ([None, "filter"], None),
        ([None, "query"], None),
        ([], None),  # the table does not exist
        ("permission denied", None),
    ],
)
def test_version_of_a_source_needs_a_newest_row(answer: object, expected: str | None) -> None:
    assert ask(replies={"newest": answer}).newest.get("source.s.r") == expected


def test_names_that_differ_only_in_case_are_no_table() -> None:
    rows = [["shop", "main", "orders", "table", "id", "int"], ["shop", "main", "Orders", "table", "id", "int"]]

    assert relations_of(rows)["shop", "main", "orders"].kind == "ambiguous"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"loaded_at_field": "at"}, ("at", None)),
        ({"loaded_at_field": None, "config": {"loaded_at_field": "at"}}, ("at", None)),
        ({"config": {"loaded_at_query": "select 1"}}, (None, "select 1")),
        ({}, (None, None)),
    ],
)
def test_loading_time_is_read_from_both_places(source: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    assert loading_time(source) == expected

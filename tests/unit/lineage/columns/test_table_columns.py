"""Columns of a query, compared with the table that DuckDB creates from it."""

# ruff: noqa: S608  # random queries of this module

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.lineage.columns.built_relations import column_lineage
from floe_orchestrator_dagster.lineage.columns.qualification import Relation
from unit.lineage.columns.test_random_queries import Script, scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = {
    '"db"."s"."t"': ("Id", "y", "v"),
    '"db"."s"."u"': ("ID", "W", "y"),
    '"db"."s"."a"': ("id", "x", "y"),
    '"db"."s"."b"': ("id", "z"),
}
RELATIONS = [Relation(f"model.shop.{name[-2]}", name, columns) for name, columns in TABLES.items()]
T, U = '"db"."s"."t"', '"db"."s"."u"'


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as db; create schema db.s")
        for name, columns in TABLES.items():
            connection.execute(f"create table {name} ({', '.join(f'{column} integer' for column in columns)})")
        yield connection


def created(database: duckdb.DuckDBPyConnection, sql: str, kind: str = "table") -> list[str]:
    database.execute(f"create or replace {kind} db.s.created_{kind} as {sql}")
    return [row[0] for row in database.execute(f"describe db.s.created_{kind}").fetchall()]


def reported(sql: str) -> list[str]:
    lineage = column_lineage(sql, "duckdb", RELATIONS)
    return list(lineage.output) if lineage else []


@pytest.mark.parametrize(
    "sql",
    [
        f"select ID, T.Y, v as V2 from {T} as t",
        f"select (ID), 1 as one, count(*) as n from {T} group by all",
        f"select * from {T}",
        f"from {T}",
        f"select * exclude (ID), id as Last from {T}",
        f"select * replace (y + 1 as Y) from {T}",
        f"select * exclude (id, Y) from {T} join {U} on true",
        f"select t.*, w from {T} as t join {U} as u on t.id = u.id",
        f"select * exclude (y) from {T} as t left join {U} as u using (id)",
        f"select * from {T} semi join {U} using (id)",
        f"select id, w from {T} natural join {U}",
        f"with c as (select id as ID from {U}) select t.id from {T} as t join c on true",
        f"select y, (select max(y) as V from {U}) as m from {T}",
        f"select v from (select max(id) as V from {T}) as s",
        f"select id from (select id, count(*) from {T} group by all)",
        f"with c(a, B) as (select max(id), count(*) from {T}) select * from c",
        f"select * from (select y, v from {T}) as s(A)",
        "select * from (values (1, 2)) as s(a, B)",
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select * from r",
        f"select id, y from {T} union all select 1, 2 as Q",
        f"(select id from {T}) except (select y from {T}) order by 1",
        f"select Q from {T} as t, lateral (select t.y as q) as l",
        f"with unknown as (select id from {U}) select * from unknown",
    ],
)
def test_columns_with_names_are_those_of_the_table(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert reported(sql) == created(database, sql) == created(database, sql, "view")


@pytest.mark.parametrize(
    "sql",
    [
        f"select max(id) from {T}",
        f"select id, count(*), v + 1 from {T} group by all",
        f"select y::integer from {T}",
        f"select sum(y) over w from {T} window w as (order by v)",
        f"select * from {T} as t join {U} as u on t.id = u.id",
        f"select t.id, u.id from {T} as t join {U} as u on true",
        f"select id, y from {T} union by name select id, w from {U}",
        f"select t.* like 'v%' from {T} as t",
        f"select *, 1 as ID from {T}",
        f"select * rename (id as y, y as id) from {T}",
        f"select columns('y|v') as c from {T}",
        f"select max(columns(*)) as m from {T}",
        f"select unnest({{'a': 1, 'b': y}}) as s from {T}",
        f"select * from (select max(id) from {T})",
        f"select id from {T} right join {U} using (id)",
        f"select * exclude (y) from {T} full join {U} using (id)",
        f"select r from {T} as r",
        f"select * from {T} pivot (sum(v) for y in (1, 2))",
        f"select * from ({T} as t join {U} as u using (id))",
        "select * from range(3)",
    ],
)
def test_a_query_with_a_column_that_duckdb_names_has_no_columns(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert created(database, sql)
    assert not reported(sql)


@pytest.mark.parametrize(
    "function", ["stack(2, id, y)", "inline(array(struct(id, y)))", "explode(map(id, y))", "posexplode(array(id))"]
)
def test_a_query_with_a_function_of_several_columns_has_no_columns(function: str) -> None:
    lineage = column_lineage(f"select id, {function} from {T.replace(chr(34), '`')}", "spark", RELATIONS)

    assert lineage is not None
    assert list(lineage.output) == []


@pytest.mark.parametrize(
    ("sql", "fields"),
    [
        (f"select max(id), y::integer, y as k from {T} group by all", ["k"]),
        (f"select t.id, u.id from {T} as t join {U} as u on true", ["Id"]),
        (f"select id, y from {T} union by name select id, w from {U}", ["Id", "y"]),
    ],
)
def test_column_lineage_has_only_names_of_columns(sql: str, fields: list[str]) -> None:
    lineage = column_lineage(sql, "duckdb", RELATIONS)

    assert lineage is not None
    assert list(lineage.fields) == fields


def test_columns_of_an_unknown_table_are_spelled_as_in_the_query() -> None:
    assert reported("with s as (select * from raw.orders) select Id, amount as Total from s") == ["Id", "Total"]
    assert not reported("select * from raw.orders")


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (f"select * from {T} as t join (select y, w from {U}) as u using (y)", []),
        (f"select * from {T} as t join (select id, w from {U}) as u using (id)", ["id", "y", "v", "w"]),
    ],
)
def test_where_the_order_depends_on_the_database_columns_of_using_come_first(sql: str, columns: list[str]) -> None:
    lineage = column_lineage(sql, "postgres", RELATIONS)

    assert lineage is not None
    assert list(lineage.output) == columns


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scripts())
def test_random_queries_with_names_have_the_columns_of_their_table(
    database: duckdb.DuckDBPyConnection, script: Script
) -> None:
    assert reported(script.sql) == created(database, script.sql)


class Source(NamedTuple):
    """Something to read: SQL of a table, a CTE or a subquery, with its columns."""

    sql: str
    columns: list[str]


def cased(draw: st.DrawFn, name: str) -> str:
    return f'"{draw(st.sampled_from([name, name.upper(), name.lower()]))}"'


def read(draw: st.DrawFn, sources: list[Source], alias: str) -> Source:
    """Draw a source with an alias, and maybe other names for its first columns."""
    source = draw(st.sampled_from(sources))
    sql = draw(st.sampled_from([source.sql, source.sql, f"(select * from {source.sql})"]))
    names = draw(st.sampled_from([[], [], [], ["p"], ["p", "Y"]]))[: len(source.columns)]
    listed = f"({', '.join(names)})" if names else ""
    return Source(f"{sql} as {alias}{listed}", [*names, *source.columns[len(names) :]])


def joined(draw: st.DrawFn, left: Source, right: Source) -> str:
    lower = {name.lower() for name in left.columns}
    shared = [name for name in right.columns if name.lower() in lower]
    ways = [", {r}", " join {r} on true", " left join {r} on true", " positional join {r}"]
    if shared:
        using = f"using ({cased(draw, draw(st.sampled_from(shared)))})"
        ways += [f" {side} join {{r}} {using}" for side in ("", "left", "right", "full", "semi", "anti")]
        ways.append(" natural join {r}")
    return left.sql + draw(st.sampled_from(ways)).format(r=right.sql)


def expression(draw: st.DrawFn, sources: list[Source]) -> str:
    alias, source = draw(st.sampled_from(list(zip("lr", sources, strict=False))))
    name = draw(st.sampled_from(source.columns))
    column = draw(st.sampled_from(["", f"{alias}."])) + cased(draw, name)
    star = draw(st.sampled_from(["*", f"{alias}.*"]))
    written = draw(st.sampled_from(["a", "ID", "Y", "k", '"New name"']))
    plain = [column, column, f"{column} as {written}", f"count(*) over () as {written}", star]
    modified = [f"{star} exclude ({cased(draw, name)})", f"{star} replace (1 as {cased(draw, name)})"]
    named_by_duckdb = [
        f"({column})",
        f"{column} + 1",
        f"{column}::varchar",
        "count(*) over ()",
        f"{star} rename ({cased(draw, name)} as {written})",
        f"{star} like 'y%'",
        f"columns('(?i)y|v|id') as {written}",
        f"unnest([1, 2]) as {written}",
        f"unnest({{'f': 1, 'G': 2}}) as {written}",
    ]
    return draw(st.sampled_from([*plain * 3, *modified * 2, *named_by_duckdb]))


def select(draw: st.DrawFn, sources: list[Source]) -> str:
    parts = [read(draw, sources, "l")]
    tables = parts[0].sql
    if draw(st.booleans()):
        parts.append(read(draw, sources, "r"))
        tables = joined(draw, *parts)
    selected = [expression(draw, parts) for _ in range(draw(st.integers(1, 3)))]
    return f"select {', '.join(selected)} from {tables}"


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_queries_have_the_columns_of_their_table_or_none(
    database: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    sources, ctes = [Source(name, list(columns)) for name, columns in TABLES.items()], ""
    for row in range(data.draw(st.integers(1, 4))):
        sql = data.draw(st.composite(lambda draw: select(draw, sources))())
        if data.draw(st.integers(0, 4)) == 0:
            way = data.draw(st.sampled_from(["union all", "union all by name", "except"]))
            sql = f"{sql} {way} {data.draw(st.sampled_from([sql, f'select * from {T}']))}"
        query = f"{ctes}{sql}"
        try:
            columns = created(database, query)
        except duckdb.Error:
            assume(row)  # it is ambiguous, or its branches have different widths
            continue
        assert reported(query) in ([], columns)
        ctes = f"{query[: len(ctes)].rstrip() + ',' if ctes else 'with'} c{row} as ({sql}) "
        sources.append(Source(f"c{row}", columns))

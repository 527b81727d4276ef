"""Column lineage of SQL, hand-written and compiled by dbt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.lineage.columns.built_relations import column_lineage, queried_columns
from floe_orchestrator_dagster.lineage.columns.column_lineage import Transformation
from floe_orchestrator_dagster.lineage.columns.qualification import Relation, dialect_of

if TYPE_CHECKING:
    from floe_orchestrator_dagster.lineage.columns.column_lineage import ColumnLineage, InputColumn

A = Relation("model.shop.a", '"db"."s"."a"', ("Id", "x", "y"))
B = Relation("model.shop.b", '"db"."s"."b"', ("id", "z"))
UNKNOWN = Relation("source.shop.u", '"db"."s"."u"')
DOCUMENTED = Relation("source.shop.d", '"db"."s"."d"', ("id",), is_complete=False)
FILE = Relation("source.shop.f", "'data/orders.csv'", ("order_id",), is_complete=False)
READER = Relation("source.shop.r", "read_parquet('s3://lake/r/*.parquet')")
RELATIONS = (A, B, UNKNOWN, DOCUMENTED, FILE, READER)


def written(lineage: ColumnLineage) -> dict[str, str]:
    """Format lineage as ``output: relation.column SUBTYPE+SUBTYPE, …``; ``*`` represents the rows."""
    fields = {name: ", ".join(map(written_input, inputs)) for name, inputs in lineage.fields.items()}
    rows = ", ".join(map(written_input, lineage.dataset))
    return fields | ({"*": rows} if rows else {})


def written_input(used: InputColumn) -> str:
    how = "+".join(each.subtype + ("!" if each.masking else "") for each in used.transformations)
    return f"{used.unique_id.rpartition('.')[2]}.{used.column} {how}"


CASES = {
    "plain columns": (
        'select id, x as renamed, 1 as one from "db"."s"."a"',
        {"Id": "a.Id IDENTITY", "renamed": "a.x IDENTITY"},
    ),
    "expressions": (
        'select x + y as total, cast(x as integer) as x, coalesce(x, y) as c, (x) as same from "db"."s"."a"',
        {
            "total": "a.x TRANSFORMATION, a.y TRANSFORMATION",
            "x": "a.x TRANSFORMATION",
            "c": "a.x TRANSFORMATION, a.y TRANSFORMATION",
            "same": "a.x IDENTITY",
        },
    ),
    "select star": (
        'select * from "db"."s"."a"',
        {"Id": "a.Id IDENTITY", "x": "a.x IDENTITY", "y": "a.y IDENTITY"},
    ),
    "star through a CTE, without some": (
        'with o as (select * from "db"."s"."a") select * exclude (x), x as last from o',
        {"Id": "a.Id IDENTITY", "y": "a.y IDENTITY", "last": "a.x IDENTITY"},
    ),
    "star over a table of unknown columns": (
        'with o as (select * from "db"."s"."u") select id, lower(q) as q from o where w > 1 order by q',
        {"id": "u.id IDENTITY", "q": "u.q TRANSFORMATION", "*": "u.q SORT, u.w FILTER"},
    ),
    "documented columns need not be all": (
        'with o as (select * from "db"."s"."d") select id, more from o',
        {"id": "d.id IDENTITY", "more": "d.more IDENTITY"},
    ),
    "a name that is both a column and an expression of it": (
        'with o as (select * from "db"."s"."d") select cast(at as timestamp) as at, cast(at as date) as day from o',
        {"at": "d.at TRANSFORMATION", "day": "d.at TRANSFORMATION"},
    ),
    "an expression that uses another's name": (
        'with o as (select * from "db"."s"."a") select x + 1 as more, more * 2 as double from o',
        {"more": "a.x TRANSFORMATION", "double": "a.x TRANSFORMATION"},
    ),
    "a file": (
        "with o as (select * from 'data/orders.csv') select cast(order_id as int) as order_id from o",
        {"order_id": "f.order_id TRANSFORMATION"},
    ),
    "a function over files": (
        "select v from read_parquet('s3://lake/r/*.parquet')",
        {"v": "r.v IDENTITY"},
    ),
    "join with case": (
        (
            'select a.id, case when a.x > 1 then a.y else b.z end as c from "db"."s"."a" a '
            'left join "db"."s"."b" b on a.id = b.id'
        ),
        {
            "Id": "a.Id IDENTITY",
            "c": "a.x CONDITIONAL, a.y TRANSFORMATION, b.z TRANSFORMATION",
            "*": "a.Id JOIN, b.id JOIN",
        },
    ),
    "join using": (
        'select * from "db"."s"."a" join "db"."s"."b" using (id)',
        {
            "Id": "a.Id IDENTITY, b.id IDENTITY",
            "x": "a.x IDENTITY",
            "y": "a.y IDENTITY",
            "z": "b.z IDENTITY",
            "*": "a.Id JOIN, b.id JOIN",
        },
    ),
    "a table joined with itself": (
        'select l.x, r.y from "db"."s"."a" l join "db"."s"."a" r on l.id = r.x',
        {"x": "a.x IDENTITY", "y": "a.y IDENTITY", "*": "a.Id JOIN, a.x JOIN"},
    ),
    "aggregates": (
        (
            'select a.id, sum(x) filter (where y > 1) as s, count(*) as n, count(distinct y) as d from "db"."s"."a" a '
            "group by 1 having max(x) > 2"
        ),
        {
            "Id": "a.Id IDENTITY",
            "s": "a.x AGGREGATION, a.y FILTER",
            "d": "a.y AGGREGATION!",
            "*": "a.Id GROUP_BY, a.x FILTER",
        },
    ),
    "an aggregate of an expression, and an expression of an aggregate": (
        'select sum(x * y) as s, round(sum(x), 2) as r from "db"."s"."a"',
        {"s": "a.x AGGREGATION, a.y AGGREGATION", "r": "a.x AGGREGATION"},
    ),
    "window functions": (
        (
            "select rank() over (partition by x order by y) as r, sum(x) over (order by y) as s, "
            'lag(x) over (order by id) as l from "db"."s"."a"'
        ),
        {
            "r": "a.x WINDOW, a.y WINDOW",
            "s": "a.x AGGREGATION, a.y WINDOW",
            "l": "a.Id WINDOW, a.x AGGREGATION",
        },
    ),
    "qualify": (
        'select id from "db"."s"."a" qualify row_number() over (partition by x order by y) = 1',
        {"Id": "a.Id IDENTITY", "*": "a.x FILTER, a.y FILTER"},
    ),
    "if": (
        'select if(x > 1, y, 0) as f from "db"."s"."a"',
        {"f": "a.x CONDITIONAL, a.y TRANSFORMATION"},
    ),
    "union by position": (
        'select id, x from "db"."s"."a" union all select z, id from "db"."s"."b"',
        {"Id": "a.Id IDENTITY, b.z IDENTITY", "x": "a.x IDENTITY, b.id IDENTITY"},
    ),
    "union of three": (
        'select x from "db"."s"."a" union all select y from "db"."s"."a" union all select z from "db"."s"."b"',
        {"x": "a.x IDENTITY, a.y IDENTITY, b.z IDENTITY"},
    ),
    "except": (
        'select x from "db"."s"."a" except select z from "db"."s"."b"',
        {"x": "a.x IDENTITY", "*": "b.z FILTER"},
    ),
    "subquery in where": (
        'select x from "db"."s"."a" where id in (select id from "db"."s"."b" where z > 1)',
        {"x": "a.x IDENTITY", "*": "a.Id FILTER, b.id FILTER, b.z FILTER"},
    ),
    "scalar subquery, correlated": (
        'select x, (select max(z) from "db"."s"."b" b where b.id = a.id) as m from "db"."s"."a" a',
        {"x": "a.x IDENTITY", "m": "b.z AGGREGATION", "*": "a.Id FILTER, b.id FILTER"},
    ),
    "derived table": (
        'select s.v from (select x as v from "db"."s"."a" where y > 1) s',
        {"v": "a.x IDENTITY", "*": "a.y FILTER"},
    ),
    "recursive CTE": (
        (
            'with recursive t as (select id, x from "db"."s"."a" union all '
            'select t.id, t.x + 1 from t join "db"."s"."b" b on b.id = t.id) select id, x from t'
        ),
        {"Id": "a.Id IDENTITY", "x": "a.x IDENTITY+TRANSFORMATION", "*": "a.Id JOIN, b.id JOIN"},
    ),
    "a CTE named like a table": (
        'with a as (select z as x from "db"."s"."b") select x from a',
        {"x": "b.z IDENTITY"},
    ),
    "an ephemeral model, as dbt inlines it": (
        (
            'with __dbt__cte__e as (select id, sum(x) as x from "db"."s"."a" group by id), o as '
            "(select * from __dbt__cte__e) select id, x from o"
        ),
        {"Id": "a.Id IDENTITY", "x": "a.x AGGREGATION", "*": "a.Id GROUP_BY"},
    ),
    "a table that dbt does not know": (
        'select a.x, q.v from "db"."s"."a" a, "other"."t"."q" q where q.k = a.y',
        {"x": "a.x IDENTITY", "*": "a.y FILTER"},
    ),
    "the table that the query writes": (
        'select x from "db"."s"."a" where y > (select max(y) from "db"."s"."this")',
        {"x": "a.x IDENTITY", "*": "a.y FILTER"},
    ),
    "unnest": (
        'select u.v from "db"."s"."a" a, unnest(a.x) as u(v)',
        {"v": "a.x TRANSFORMATION"},
    ),
    "lateral": (
        ('select l.v from "db"."s"."a" a, lateral (select a.x + b.z as v from "db"."s"."b" b where b.id = a.id) l'),
        {"v": "a.x TRANSFORMATION, b.z TRANSFORMATION", "*": "a.Id FILTER, b.id FILTER"},
    ),
    "exists": (
        'select x from "db"."s"."a" a where exists (select 1 from "db"."s"."b" where z = a.y)',
        {"x": "a.x IDENTITY", "*": "a.y FILTER, b.z FILTER"},
    ),
    "distinct on": (
        'select distinct on (id) x from "db"."s"."a" order by y',
        {"x": "a.x IDENTITY", "*": "a.Id GROUP_BY, a.y SORT"},
    ),
    "a named window": (
        'select sum(y) over w as s from "db"."s"."a" window w as (partition by id)',
        {"s": "a.y AGGREGATION", "*": "a.Id WINDOW"},
    ),
    "ordered aggregates": (
        'select array_agg(x order by y) as l, quantile_cont(0.5) within group (order by x) as m from "db"."s"."a"',
        {"l": "a.x AGGREGATION, a.y SORT", "m": "a.x AGGREGATION"},
    ),
    "a field of a struct": (
        'select i.s.f as f from (select x as s from "db"."s"."a") i',
        {"f": "a.x TRANSFORMATION"},
    ),
    "star of one table of several, with a replacement": (
        'select a.* replace (y + 1 as y), b.z from "db"."s"."a" a cross join "db"."s"."b" b',
        {"Id": "a.Id IDENTITY", "x": "a.x IDENTITY", "y": "a.y TRANSFORMATION", "z": "b.z IDENTITY"},
    ),
    "columns that could be of either table": (
        'select a, u.b from "db"."s"."u" u join "db"."s"."d" d on u.k = d.k',
        {"b": "u.b IDENTITY", "*": "d.k JOIN, u.k JOIN"},
    ),
    "a query in parentheses": (
        '(select x from "db"."s"."a") union (select z from "db"."s"."b")',
        {"x": "a.x IDENTITY, b.z IDENTITY"},
    ),
    "a CTE that is read twice": (
        'with c as (select * from "db"."s"."a" where y > 1) select l.x from c l join c r on l.id = r.x',
        {"x": "a.x IDENTITY", "*": "a.Id JOIN, a.x JOIN, a.y FILTER"},
    ),
    "a hash": (
        'select md5(x) as h from "db"."s"."a"',
        {"h": "a.x TRANSFORMATION!"},
    ),
    "from first": ('from "db"."s"."a" select x', {"x": "a.x IDENTITY"}),
    "comments and a semicolon": ('-- hello\nselect x /* there */ from "db"."s"."a";\n', {"x": "a.x IDENTITY"}),
    "no table at all": ("select 1 as one", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_columns_are_resolved_to_columns_of_tables(name: str) -> None:
    sql, expected = CASES[name]

    lineage = column_lineage(sql, "duckdb", RELATIONS)

    assert lineage is not None
    assert written(lineage) == expected


@pytest.mark.parametrize(
    ("adapter", "relation_name", "sql"),
    [
        ("bigquery", "`my-project`.`s`.`a`", "select a.`id` from `my-project`.`s`.`a` as a"),
        ("snowflake", "DB.S.A", 'select "ID" from DB.S.A'),
        ("databricks", "`db`.`s`.`a`", "select id from `db`.`s`.`a`"),
        ("spark", "s.a", "select id from s.a"),
        ("sqlserver", '"db"."s"."a"', "select [ID] from [db].[s].[a]"),
        ("clickhouse", "`s`.`a`", "select id from `s`.`a`"),
        ("athena", '"awsdatacatalog"."s"."a"', 'select id from "awsdatacatalog"."s"."a"'),
        ("mysql", "`s`.`a`", "select `id` from `s`.`a`"),
        ("oracle", "s.a", "select id from s.a"),
        ("somebodys", '"db"."s"."a"', "select id from db.s.a"),
    ],
)
def test_each_adapter_has_its_dialect(adapter: str, relation_name: str, sql: str) -> None:
    lineage = column_lineage(sql, adapter, [Relation("model.shop.a", relation_name, ("Id",))])

    assert lineage is not None
    assert list(map(written_input, lineage.fields["id"])) == ["a.Id IDENTITY"]


def test_a_star_over_unknown_columns_has_the_actual_output_columns() -> None:
    lineage = column_lineage('select * from "db"."s"."u"', "duckdb", RELATIONS, ["Id", "Größe in m²"])

    assert lineage is not None
    assert written(lineage) == {"Id": "u.id IDENTITY", "Größe in m²": "u.größe in m² IDENTITY"}


def test_a_star_of_one_table_is_resolved_to_that_table() -> None:
    sql = 'select t.*, o.x from "db"."s"."u" t join "db"."s"."a" o on o.id = t.k'

    lineage = column_lineage(sql, "duckdb", RELATIONS, ["k", "v", "x"])

    assert lineage is not None
    assert written(lineage) == {
        "k": "u.k IDENTITY",
        "v": "u.v IDENTITY",
        "x": "a.x IDENTITY",
        "*": "a.Id JOIN, u.k JOIN",
    }


def test_excluded_columns_of_a_star_are_left_out_and_replaced_ones_resolved() -> None:
    sql = 'select * exclude (secret) replace (lower(q) as q) from "db"."s"."u"'

    lineage = column_lineage(sql, "duckdb", RELATIONS, ["id", "q", "secret"])

    assert lineage is not None
    assert written(lineage) == {"id": "u.id IDENTITY", "q": "u.q TRANSFORMATION"}


def test_a_star_over_documented_columns_has_these_columns() -> None:
    lineage = column_lineage('select * from "db"."s"."d"', "duckdb", RELATIONS)

    assert lineage is not None
    assert written(lineage) == {"id": "d.id IDENTITY"}


def test_output_columns_have_the_case_of_the_warehouse() -> None:
    lineage = column_lineage('select x from "db"."s"."a"', "duckdb", RELATIONS, ["X"])

    assert lineage is not None
    assert list(lineage.fields) == ["X"]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "this is ( no sql",
        "select 1; select 2",
        "create table t as select 1",
        "{{ not_compiled }}",
        "select x from",
        "select " + "(" * 3000 + "1" + ")" * 3000,
        "select '" + "x" * 600_000 + "'",
    ],
    ids=["empty", "semicolon", "no SQL", "two", "DDL", "Jinja", "cut off", "too deep", "too long"],
)
def test_sql_that_cannot_be_parsed_has_no_lineage(sql: str) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Python's default, which libraries increase: it determines which nesting is too deep
    try:
        assert column_lineage(sql, "duckdb", RELATIONS) is None
    finally:
        sys.setrecursionlimit(limit)


def test_lineage_has_the_columns_read_and_dagsters_form() -> None:
    sql = 'select id, case when x > 1 then y end as c, rank() over (order by x) as r from "db"."s"."a" where y > 0'

    lineage = column_lineage(sql, "duckdb", RELATIONS)

    assert lineage is not None
    assert lineage.columns_read == {"model.shop.a": ("Id", "x", "y")}
    assert lineage.direct == {"Id": [("model.shop.a", "Id")], "c": [("model.shop.a", "y")]}


def test_indirect_dependencies_stay_indirect_through_transformations() -> None:
    decides = Transformation("CONDITIONAL")

    assert decides.after(Transformation("AGGREGATION", masking=True)) == Transformation("CONDITIONAL", masking=True)
    assert Transformation("AGGREGATION").after(decides) == decides


@pytest.mark.parametrize(
    ("adapter", "dialect"), [("duckdb", "duckdb"), ("sqlserver", "tsql"), ("glue", "spark"), ("somebodys", "")]
)
def test_adapters_have_dialects(adapter: str, dialect: str) -> None:
    assert dialect_of(adapter) == dialect


@pytest.mark.parametrize("names", [None, {}, {"dbt_valid_from": "Start_Date", "dbt_valid_to": None}])
def test_columns_that_dbt_adds_to_a_snapshot_are_left_out(names: dict[str, str | None] | None) -> None:
    start = "start_date" if names else "dbt_valid_from"
    snapshot = {"resource_type": "snapshot", "config": {"snapshot_meta_column_names": names}}
    columns = ["id", "dbt_loaded_at", "DBT_SCD_ID", "dbt_updated_at", start, "dbt_valid_to"]

    assert queried_columns(snapshot, columns) == ["id", "dbt_loaded_at"]
    assert queried_columns({"resource_type": "model", "config": {}}, columns) == columns

"""Column lineage of random queries, compared with the lineage that their construction determines."""

# ruff: noqa: S608  # queries are parsed, never run

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster.lineage.columns.built_relations import column_lineage
from floe_orchestrator_dagster.lineage.columns.qualification import Relation

TABLES = {
    "a": Relation("model.shop.a", '"db"."s"."a"', ("id", "x", "y")),
    "b": Relation("model.shop.b", '"db"."s"."b"', ("id", "z")),
}
Column = tuple[str, str]  # unique id, name


@dataclass(frozen=True)
class Source:
    """A table or CTE, with the columns of tables that each of its columns and its rows depend on."""

    sql: str
    columns: dict[str, frozenset[Column]]
    rows: frozenset[Column] = frozenset()


@dataclass
class Script:
    """A query of CTEs that read tables and earlier CTEs."""

    sources: list[Source] = field(
        default_factory=lambda: [
            Source(table.relation_name, {name: frozenset({(table.unique_id, name)}) for name in table.columns})
            for table in TABLES.values()
        ]
    )
    ctes: list[str] = field(default_factory=list)

    def add(self, sql: str, columns: dict[str, frozenset[Column]], rows: frozenset[Column]) -> None:
        name = f"c{len(self.ctes)}"
        self.ctes.append(f"{name} as (\n  {sql}\n)")
        self.sources.append(Source(name, columns, rows))

    @property
    def sql(self) -> str:
        return f"with {', '.join(self.ctes)} select * from {self.sources[-1].sql}"


def add_star(script: Script, draw: st.DrawFn) -> None:
    read = draw(st.sampled_from(script.sources))
    script.add(f"select * from {read.sql}", read.columns, read.rows)


def add_projection(script: Script, draw: st.DrawFn) -> None:
    read = draw(st.sampled_from(script.sources))
    written, columns = projected(draw, read, draw(st.integers(1, 4)))
    clause, rows = "", read.rows
    if draw(st.booleans()):
        name = draw(st.sampled_from(list(read.columns)))
        clause, rows = f" where r.{name} > 1", rows | read.columns[name]
    script.add(f"select {written} from {read.sql} as r{clause}", columns, rows)


def add_union(script: Script, draw: st.DrawFn) -> None:
    branches = draw(st.lists(st.sampled_from(script.sources), min_size=2, max_size=5))
    width = draw(st.integers(1, 3))
    parts = [projected(draw, read, width, names="n" if row == 0 else f"m{row}_") for row, read in enumerate(branches)]
    columns = {
        name: frozenset[Column]().union(*([*columns.values()][position] for _, columns in parts))
        for position, name in enumerate(parts[0][1])
    }
    rows = frozenset[Column]().union(*(read.rows for read in branches))
    sql = " union all ".join(
        f"select {written} from {read.sql} as r" for read, (written, _) in zip(branches, parts, strict=True)
    )
    script.add(sql, columns, rows)


def add_join(script: Script, draw: st.DrawFn) -> None:
    left, right = draw(st.sampled_from(script.sources)), draw(st.sampled_from(script.sources))
    ones, others = draw(st.sampled_from(list(left.columns))), draw(st.sampled_from(list(right.columns)))
    columns = {"p": left.columns[ones], "q": right.columns[others], "t": left.columns[ones] | right.columns[others]}
    rows = left.rows | right.rows | columns["t"]
    sql = f"select l.{ones} as p, r.{others} as q, coalesce(l.{ones}, r.{others}) as t"
    script.add(f"{sql} from {left.sql} as l join {right.sql} as r on l.{ones} = r.{others}", columns, rows)


def add_subquery(script: Script, draw: st.DrawFn) -> None:
    outer, inner = draw(st.sampled_from(script.sources)), draw(st.sampled_from(script.sources))
    shown, filtered = draw(st.sampled_from(list(outer.columns))), draw(st.sampled_from(list(inner.columns)))
    rows = outer.rows | inner.rows | outer.columns[shown] | inner.columns[filtered]
    sql = f"select o.{shown} as s from {outer.sql} as o where o.{shown} in (select i.{filtered} from {inner.sql} as i)"
    script.add(sql, {"s": outer.columns[shown]}, rows)


def projected(draw: st.DrawFn, read: Source, width: int, names: str = "n") -> tuple[str, dict[str, frozenset[Column]]]:
    columns, written = {}, []
    for position in range(width):
        used = draw(st.lists(st.sampled_from(list(read.columns)), min_size=1, max_size=3))
        name = f"{names}{position}"
        written.append(f"{' + '.join(f'r.{each}' for each in used)} as {name}")
        columns[name] = frozenset[Column]().union(*(read.columns[each] for each in used))
    return ", ".join(written), columns


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    script = Script()
    for add in draw(
        st.lists(st.sampled_from([add_star, add_projection, add_union, add_join, add_subquery]), min_size=1, max_size=8)
    ):
        add(script, draw)
    return script


@settings(max_examples=150, deadline=None)
@given(scripts())
def test_lineage_of_random_queries_is_that_of_their_parts(script: Script) -> None:
    lineage = column_lineage(script.sql, "duckdb", TABLES.values())

    assert lineage is not None
    expected = script.sources[-1]
    assert {name: frozenset(inputs) for name, inputs in lineage.direct.items()} == expected.columns
    assert {(used.unique_id, used.column) for used in lineage.dataset} == expected.rows

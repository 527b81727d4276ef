"""Two connections mean the same table only if that is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.product.profiles import Profile
from floe_orchestrator_dagster.product.project import read_project_directory
from floe_orchestrator_dagster.product.same_tables import is_same_table
from floe_orchestrator_dagster.product.values import DbtConnection

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
POSTGRES = {"type": "postgres", "host": "pg", "port": 5432, "dbname": "shop", "user": "me", "schema": "main"}
ON_SOCKET = {**POSTGRES, "host": "/run/one"}
SNOWFLAKE = {"type": "snowflake", "account": "org-one", "database": "shop", "warehouse": "SMALL", "threads": 1}
SPARK = {"type": "spark", "host": "spark", "method": "thrift", "threads": 1}
FILE = {"type": "duckdb", "path": "/data/shop.duckdb"}
SERVER = "host=pg port=5432 dbname=shop user=me password=secret"
READS_A_VARIABLE = {"floe_reads": {"environment": ["SCHEMA"]}}


def attaching(path: str, **entry: object) -> Json:
    return {"type": "duckdb", "path": "/data/warehouse.duckdb", "attach": [{"path": path, "alias": "shop", **entry}]}


def on_server(text: str) -> Json:
    return attaching(text, type="postgres")


def table(**changes: object) -> Json:
    names = {"database": "shop", "schema": "main", "alias": "t", "relation_name": '"shop"."main"."t"'}
    return {"resource_type": "model", "name": "t", "config": {}, **names, **changes}


@pytest.fixture
def is_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401  # a function of two outputs
    """Give a function that compares the tables of two outputs."""
    monkeypatch.setenv("PG_HOST", "pg")
    (tmp_path / "dbt_project.yml").write_text("name: shop\n", encoding="utf-8")
    directory = read_project_directory(tmp_path, "shop")

    def compare(one: Json, other: Json, built: Json | None = None, read: Json | None = None) -> bool:
        profile = Profile("shop", "one", {"one": one, "other": other}, "one", ())
        connections = [DbtConnection(directory, profile.on_target(target)) for target in ("one", "other")]
        return is_same_table(connections[0], built or table(), connections[1], read or table())

    return compare


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (POSTGRES, {**POSTGRES, "user": "you", "schema": "other"}),
        ({**POSTGRES, "host": "{{ env_var('PG_HOST') }}"}, POSTGRES),
        (POSTGRES, on_server(SERVER)),
        (ON_SOCKET, on_server("host=/run/one port=5432 dbname=shop")),
        (FILE, attaching("/data/shop.duckdb", read_only=True)),
        (attaching("/data/shop.duckdb"), attaching("/data/shop.duckdb", type="duckdb")),
        (SNOWFLAKE, {**SNOWFLAKE, "warehouse": "LARGE", "threads": 8}),
        (SPARK, SPARK),
        ({**SNOWFLAKE, "role": None}, {**SNOWFLAKE, "role": None, "threads": 8}),
    ],
)
def test_table_is_the_same(is_same: Any, one: Json, other: Json) -> None:  # noqa: ANN401  # see the fixture
    assert is_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (POSTGRES, {**POSTGRES, "host": "replica"}),
        (POSTGRES, {**POSTGRES, "port": 5433}),
        (POSTGRES, on_server("host=replica port=5432 dbname=shop")),
        (POSTGRES, on_server("host=pg port=5432 dbname=other")),
        (ON_SOCKET, on_server("host=/run/oneself port=5432 dbname=shop")),
        # Defaults, services, lists of hosts and quoted values: the driver decides.
        (POSTGRES, on_server("host=pg dbname=shop")),
        (POSTGRES, on_server("dbname=shop port=5432")),
        (POSTGRES, on_server(f"{SERVER} service=replica")),
        (POSTGRES, on_server(f"{SERVER} hostaddr=10.0.0.1")),
        (POSTGRES, on_server("host='pg' port=5432 dbname=shop")),
        (POSTGRES, on_server("postgresql://pg:5432/shop")),
        (POSTGRES, on_server(f"{SERVER} host=replica")),
        ({**POSTGRES, "host": "a,b"}, on_server("host=a,b port=5432 dbname=shop")),
        (POSTGRES, attaching("", type="postgres", key="login")),
        (POSTGRES, attaching(SERVER, type="postgres", options={"schema": "other"})),
        ({**POSTGRES, "host": "{{ env_var('UNSET') }}"}, POSTGRES),
        # Names that come from variables can be others when dbt runs.
        ({**POSTGRES, "schema": "{{ env_var('PG_HOST') }}"}, POSTGRES),
        ({**POSTGRES, "dbname": "{{ env_var('DB', 'shop') }}"}, POSTGRES),
        (FILE, attaching("/data/copy/shop.duckdb")),
        (FILE, attaching("{{ env_var('COPY', '/data') }}/shop.duckdb")),
        (FILE, attaching("s3://data/shop.duckdb")),
        (FILE, attaching("/data/shop.sqlite", type="sqlite")),
        (FILE, {**attaching("/data/shop.duckdb"), "secrets": []}),
        (FILE, attaching("/data/shop.duckdb", alias="elsewhere")),
        ({"type": "duckdb", "path": ":memory:"}, {"type": "duckdb", "path": ":memory:", "settings": {}}),
        (SNOWFLAKE, {**SNOWFLAKE, "account": "org-two"}),
        (SNOWFLAKE, {**SNOWFLAKE, "role": None}),
        ({**SNOWFLAKE, "role": "{{ env_var('UNSET') }}"}, {**SNOWFLAKE, "role": "{{ env_var('UNSET') }}"}),
        (SPARK, {**SPARK, "host": "other"}),
        (
            {"type": "trino", "host": "t", "database": "shop"},
            {"type": "trino", "host": "t", "database": "shop", "a": 1},
        ),
    ],
)
def test_table_may_be_another(is_same: Any, one: Json, other: Json) -> None:  # noqa: ANN401  # see the fixture
    assert not is_same(one, other)


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": "other", "relation_name": '"shop"."other"."t"'},
        {"alias": "u", "relation_name": '"shop"."main"."u"'},
        {"database": "copy", "relation_name": '"copy"."main"."t"'},
        READS_A_VARIABLE,
        {"floe_reads": {"environment": None}},
        {"unrendered_config": {"schema": "{{ env_var('SCHEMA', 'main') }}"}},
        {"unrendered_config": {"alias": "env_var('TABLE', 't')"}},
    ],
)
@pytest.mark.parametrize("other", [{**POSTGRES, "user": "you"}, {**POSTGRES, "threads": 8}])
def test_table_with_other_names_or_names_from_variables_may_be_another(
    is_same: Any,  # noqa: ANN401  # see the fixture
    other: Json,
    changed: Json,
) -> None:
    assert is_same(POSTGRES, other)
    assert not is_same(POSTGRES, other, read=table(**changed))
    assert not is_same(POSTGRES, other, built=table(**changed))


@pytest.mark.parametrize("name", ["T", "a table", "t" * 64, 'quoted"'])
def test_name_that_databases_read_differently_may_be_another(is_same: Any, name: str) -> None:  # noqa: ANN401  # see the fixture
    node = table(alias=name)
    assert not is_same(POSTGRES, on_server(SERVER), node, node)


def test_same_names_that_are_quoted_differently_may_be_others(is_same: Any) -> None:  # noqa: ANN401  # see the fixture
    assert not is_same(SNOWFLAKE, SNOWFLAKE, read=table(relation_name="shop.main.t"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("models: [{name: t}]", True), ("models: [{name: t, config: {schema: \"{{ env_var('S', 'main') }}\"}}]", False)],
)
def test_table_whose_properties_read_variables_may_be_another(
    is_same: Any,  # noqa: ANN401  # see the fixture
    tmp_path: Path,
    text: str,
    expected: object,
) -> None:
    (tmp_path / "schema.yml").write_text(text, encoding="utf-8")
    assert is_same(POSTGRES, POSTGRES, table(patch_path="shop://schema.yml")) is expected
    assert not is_same(POSTGRES, POSTGRES, table(patch_path="shop://missing.yml"))


def test_table_behind_a_link_is_that_of_the_file(is_same: Any, tmp_path: Path) -> None:  # noqa: ANN401  # see the fixture
    file, link = tmp_path / "shop.duckdb", tmp_path / "link.duckdb"
    link.symlink_to(file)
    assert is_same({"type": "duckdb", "path": str(file)}, attaching(str(link)))
    link.unlink()
    link.symlink_to(tmp_path / "copy.duckdb")
    assert not is_same({"type": "duckdb", "path": str(file)}, attaching(str(link)))

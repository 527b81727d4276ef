"""Names of datasets, equal to those of other OpenLineage producers."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from openlineage.client.naming import dataset as naming

from floe_orchestrator_dagster.execution.dbt.node_result import NodeRelation
from floe_orchestrator_dagster.lineage.datasets.attachments import Catalog
from floe_orchestrator_dagster.lineage.datasets.names import DatasetName, file_name, read_warehouse
from unit.samples import node, source

Json = dict[str, Any]

ORDERS = node("orders", database="db", schema="sales", alias="orders_v2")
ACCOUNT = "arn:aws:iam::123456789012:role/dbt"
SECRETS = {
    "user": "u",
    "password": "pa55",
    "pass": "pa55",
    "token": "pa55",
    "private_key": "pa55",
    "client_secret": "pa55",
}

# Output of profiles.yml → namespace. The name is db.sales.orders_v2 unless another is given.
OUTPUTS: dict[str, tuple[Json, str]] = {
    "duckdb": ({"type": "duckdb", "path": "/data/shop.duckdb"}, "duckdb:///data/shop.duckdb"),
    "postgres": ({"type": "postgres", "host": "pg.example.com", "port": 5433}, "postgres://pg.example.com:5433"),
    "redshift": (
        {"type": "redshift", "host": "shop.abc.eu-west-1.redshift.amazonaws.com", "port": 5439},
        "redshift://shop.abc.eu-west-1.redshift.amazonaws.com:5439",
    ),
    "snowflake": ({"type": "snowflake", "account": "myorg-shop"}, "snowflake://myorg-shop"),
    "snowflake, locator": ({"type": "snowflake", "account": "xy12345"}, "snowflake://xy12345.us-west-1.aws"),
    "snowflake, region": (
        {"type": "snowflake", "account": "xy12345.us-east-1"},
        "snowflake://xy12345.us-east-1.aws",
    ),
    "snowflake, cloud": (
        {"type": "snowflake", "account": "xy12345.east-us-2.azure"},
        "snowflake://xy12345.east-us-2.azure",
    ),
    "bigquery": ({"type": "bigquery", "project": "p", "dataset": "d"}, "bigquery"),
    "databricks": (
        {"type": "databricks", "host": "adb-1.azuredatabricks.net"},
        "databricks://adb-1.azuredatabricks.net",
    ),
    "spark, thrift": ({"type": "spark", "method": "thrift", "host": "spark"}, "spark://spark:10001"),
    "spark, http": ({"type": "spark", "method": "http", "host": "spark"}, "spark://spark:443"),
    "spark, port": ({"type": "spark", "method": "odbc", "host": "spark", "port": 8443}, "spark://spark:8443"),
    "trino": ({"type": "trino", "host": "trino", "port": 8443}, "trino://trino:8443"),
    "presto": ({"type": "presto", "host": "presto", "port": 8080}, "presto://presto:8080"),
    "athena": (
        {"type": "athena", "region_name": "eu-west-1", "assume_role_arn": ACCOUNT},
        "awsathena://athena.eu-west-1.amazonaws.com",
    ),
    "glue": (
        {"type": "glue", "region": "eu-west-1", "role_arn": ACCOUNT},
        "arn:aws:glue:eu-west-1:123456789012",
    ),
    "clickhouse": ({"type": "clickhouse", "host": "ch", "port": 8443}, "clickhouse://ch:8443"),
    "sqlserver": ({"type": "sqlserver", "server": "sql", "port": 1433}, "mssql://sql:1433"),
    "fabric": ({"type": "fabric", "server": "x.datawarehouse.fabric"}, "fabric-warehouse://x.datawarehouse.fabric"),
    "fabric, port": ({"type": "fabric", "server": "x.fabric", "port": 1433}, "fabric-warehouse://x.fabric:1433"),
    "dremio": ({"type": "dremio", "software_host": "dremio", "port": 9047}, "dremio://dremio:9047"),
    "snowflake, gov": (
        {"type": "snowflake", "account": "xy12345.us-gov-west-1.aws"},
        "snowflake://xy12345.us-gov-west-1.aws",
    ),
    "glue, account": (
        {"type": "glue", "region": "eu-west-1", "account_id": "42", "role_arn": ACCOUNT},
        "arn:aws:glue:eu-west-1:42",
    ),
    "watsonx": ({"type": "watsonx_presto", "host": "wx", "port": 8443}, "presto://wx:8443"),
    "duckdb, user in the path": (
        {"type": "duckdb", "path": "/lake/ann@x.com/shop?.duckdb"},
        "duckdb:///lake/ann@x.com/shop?.duckdb",
    ),
}
# Adapters that OpenLineage's dbt integration does not know: as on its naming page, or adapter, host and port.
OTHERS: dict[str, tuple[Json, str, str]] = {
    "mysql": ({"type": "mysql", "server": "my"}, "mysql://my:3306", "sales.orders_v2"),
    "oracle": (
        {"type": "oracle", "host": "ora", "service": "ORCL"},
        "oracle://ora:1521",
        "db.sales.orders_v2",
    ),
    "teradata": ({"type": "teradata", "host": "td"}, "teradata://td:1025", "sales.orders_v2"),
    "synapse": ({"type": "synapse", "server": "syn", "port": 1433}, "sqlserver://syn:1433", "sales.orders_v2"),
    "oracle, a service and what dbt calls the database": (
        {"type": "oracle", "host": "ora", "service": "ORCL", "database": "DB"},
        "oracle://ora:1521",
        "ORCL.sales.orders_v2",
    ),
    "oracle, only a database": (
        {"type": "oracle", "host": "ora", "database": "db"},
        "oracle://ora:1521",
        "db.sales.orders_v2",
    ),
    "oracle, a TNS name": (
        {"type": "oracle", "tns_name": "sales_high", "service": "ORCL", "database": "db"},
        "oracle://sales_high",
        "ORCL.sales.orders_v2",
    ),
    "ibmdb2": ({"type": "ibmdb2", "host": "db2"}, "db2://db2:50000", "db.sales.orders_v2"),
    "oceanbase": ({"type": "oceanbase_mysql", "host": "ob"}, "oceanbase://ob:2881", "sales.orders_v2"),
    "dremio cloud": (
        {"type": "dremio", "cloud_host": "api.dremio.cloud", "cloud_project_id": "p1"},
        "dremio://api.dremio.cloud:443/p1",
        "db.sales.orders_v2",
    ),
    "fabricspark": (
        {"type": "fabricspark", "endpoint": "https://api.fabric.microsoft.com/v1", "workspaceid": "w1"},
        "fabricspark://api.fabric.microsoft.com/w1",
        "db.sales.orders_v2",
    ),
    "clickhouse, TLS": (
        {"type": "clickhouse", "host": "ch", "secure": True},
        "clickhouse://ch:8443",
        "db.sales.orders_v2",
    ),
    "clickhouse, native": (
        {"type": "clickhouse", "host": "ch", "driver": "native"},
        "clickhouse://ch:9000",
        "db.sales.orders_v2",
    ),
    "exasol": ({"type": "exasol", "dsn": "exa1,exa2"}, "exasol://exa1:8563", "db.sales.orders_v2"),
    "exasol, port": ({"type": "exasol", "dsn": "exa:8564"}, "exasol://exa:8564", "db.sales.orders_v2"),
    "firebolt": ({"type": "firebolt", "account_name": "acme"}, "firebolt://acme", "db.sales.orders_v2"),
    "hive": ({"type": "hive", "host": "hive"}, "hive://hive:10000", "sales.orders_v2"),
    "crate": ({"type": "cratedb", "host": "crate"}, "crate://crate:5432", "db.sales.orders_v2"),
    "starrocks": ({"type": "starrocks", "host": "sr"}, "starrocks://sr:9030", "db.sales.orders_v2"),
    "unknown adapter": ({"type": "somebodys", "host": "h", "port": 1}, "somebodys://h:1", "db.sales.orders_v2"),
    "unknown adapter without a host": ({"type": "somebodys"}, "somebodys://localhost", "db.sales.orders_v2"),
    "no type": ({}, "unknown://localhost", "db.sales.orders_v2"),
    "duckdb in memory": ({"type": "duckdb"}, "duckdb://:memory:", "db.sales.orders_v2"),
    "duckdb in a bucket": (
        {"type": "duckdb", "path": "s3://lake/a@b.com/shop.db?s3_secret_access_key=pa55/x"},
        "duckdb://s3://lake/a@b.com/shop.db",
        "db.sales.orders_v2",
    ),
    "motherduck": (
        {"type": "duckdb", "path": "md:shop?motherduck_token=pa55"},
        "duckdb://md:shop",
        "db.sales.orders_v2",
    ),
    "a Unix socket": ({"type": "postgres", "host": "/run/pg"}, "postgres://localhost:5432", "db.sales.orders_v2"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_namespaces_are_those_of_the_warehouse(name: str) -> None:
    output, namespace = OUTPUTS[name]

    identity = read_warehouse(output | SECRETS, {}).identify(ORDERS)

    assert identity.dataset == DatasetName(namespace, "db.sales.orders_v2")


@pytest.mark.parametrize("name", OTHERS)
def test_other_adapters_have_names_too(name: str) -> None:
    output, namespace, table = OTHERS[name]

    identity = read_warehouse(SECRETS | output, {}).identify(ORDERS)

    assert identity.dataset == DatasetName(namespace, table)


SALES = {"database": "db", "schema": "sales", "table": "orders_v2"}
IN_SCHEMA = {"database": "sales", "table": "orders_v2"}
HOST = {"host": "h", "port": "1"}
# Output of profiles.yml → the name that OpenLineage's client gives to the same table.
SPECIFIED: dict[str, tuple[Json, naming.DatasetNaming]] = {
    "athena": (
        {"type": "athena", "region_name": "r"},
        naming.Athena(region_name="r", catalog="db", database="sales", table="orders_v2"),
    ),
    "bigquery": (
        {"type": "bigquery"},
        naming.BigQuery(project_id="db", dataset_name="sales", table_name="orders_v2"),
    ),
    "mysql": ({"type": "mysql", "server": "h", "port": 1}, naming.MySQL(**HOST, **IN_SCHEMA)),
    "mysql5": ({"type": "mysql5", "server": "h", "port": 1}, naming.MySQL(**HOST, **IN_SCHEMA)),
    "mariadb": ({"type": "mariadb", "server": "h", "port": 1}, naming.MySQL(**HOST, **IN_SCHEMA)),
    "cratedb": ({"type": "cratedb", **HOST}, naming.CrateDB(**HOST, **SALES)),
    "db2": ({"type": "db2", **HOST}, naming.DB2(**HOST, **SALES)),
    "ibmdb2": ({"type": "ibmdb2", **HOST}, naming.DB2(**HOST, **SALES)),
    "oceanbase": ({"type": "oceanbase", **HOST}, naming.OceanBase(**HOST, **IN_SCHEMA)),
    "oceanbase_mysql": ({"type": "oceanbase_mysql", **HOST}, naming.OceanBase(**HOST, **IN_SCHEMA)),
    "oracle": (
        {"type": "oracle", "service": "S", "database": "DB", **HOST},
        naming.Oracle(**HOST, service_name="S", schema="sales", table="orders_v2"),
    ),
    "postgres": ({"type": "postgres", **HOST}, naming.Postgres(**HOST, **SALES)),
    "alloydb": ({"type": "alloydb", **HOST}, naming.Postgres(**HOST, **SALES)),
    "teradata": ({"type": "teradata", **HOST}, naming.Teradata(**HOST, **IN_SCHEMA)),
    "snowflake": (
        {"type": "snowflake", "account": "o-a"},
        naming.Snowflake(organization_name="o", account_name="a", **SALES),
    ),
    "synapse": (
        {"type": "synapse", "server": "h", "port": 1},
        naming.AzureSynapse(**HOST, schema="sales", table="orders_v2"),
    ),
    "trino": ({"type": "trino", **HOST}, naming.Trino(**HOST, catalog="db", schema="sales", table="orders_v2")),
    "hive": ({"type": "hive", **HOST}, naming.Hive(**HOST, **IN_SCHEMA)),
}
# The client's name is a symlink if OpenLineage's dbt integration has another name.
SYMLINKED: dict[str, tuple[Json, naming.DatasetNaming]] = {
    "glue": (
        {"type": "glue", "region": "r", "account_id": "1"},
        naming.AWSGlue(region_name="r", account_id="1", database_name="sales", table_name="orders_v2"),
    ),
    "athena": (
        {"type": "athena", "region_name": "r", "assume_role_arn": "arn:aws:iam::1:role/dbt"},
        naming.AWSGlue(region_name="r", account_id="1", database_name="sales", table_name="orders_v2"),
    ),
    "redshift": (
        {"type": "redshift", "host": "c.abc.r.redshift.amazonaws.com", "port": 1},
        naming.Redshift(cluster_identifier="c", region="r", port="1", **SALES),
    ),
}
# Files: path in DuckDB → the client's name.
LOCATED: dict[str, naming.DatasetNaming] = {
    "s3://lake/email=a@b.com/x?.parquet": naming.S3("lake", "email=a@b.com/x?.parquet"),
    "s3a://lake/a#b/x": naming.S3("lake", "a#b/x"),
    "gs://lake/a@b/x": naming.GCS("lake", "a@b/x"),
    "gcs://lake/x": naming.GCS("lake", "x"),
    "abfss://box@acc.dfs.core.windows.net/a@b/x": naming.ABFSS("box", "acc", "a@b/x"),
    "abfss://acc.dfs.core.windows.net/box/a@b/x": naming.ABFSS("box", "acc", "a@b/x"),
    "wasbs://box@acc.dfs.core.windows.net/x": naming.WASBS("box", "acc", "x"),
    "hdfs://nn:8020/a@b/x": naming.HDFS("nn", "8020", "/a@b/x"),
    "/lake/ann@x.com/a?.csv": naming.LocalFileSystem("/lake/ann@x.com/a?.csv"),
    "file:///lake/ann@x.com/a.csv": naming.LocalFileSystem("/lake/ann@x.com/a.csv"),
    "file://localhost/a.csv": naming.LocalFileSystem("/a.csv"),
    "file://nas/a@b/x.csv": naming.RemoteFileSystem("nas", "/a@b/x.csv"),
}


def as_named(specified: naming.DatasetNaming) -> DatasetName:
    return DatasetName(specified.get_namespace(), specified.get_name())


@pytest.mark.parametrize("name", SPECIFIED)
def test_names_are_those_of_openlineages_client(name: str) -> None:
    output, specified = SPECIFIED[name]

    assert read_warehouse(output, {}).identify(ORDERS).dataset == as_named(specified)


@pytest.mark.parametrize("name", SYMLINKED)
def test_names_of_openlineages_client_are_known_where_its_dbt_integration_has_others(name: str) -> None:
    output, specified = SYMLINKED[name]

    assert as_named(specified) in read_warehouse(output, {}).identify(ORDERS).others


@pytest.mark.parametrize("location", LOCATED)
def test_files_are_named_as_by_openlineages_client(location: str) -> None:
    assert file_name(location, PurePosixPath("/project")) == as_named(LOCATED[location])


def test_every_kind_of_dataset_that_openlineages_client_names_is_compared() -> None:
    tables = [specified for _, specified in [*SPECIFIED.values(), *SYMLINKED.values()]]
    compared = {type(specified).__name__ for specified in [*tables, *LOCATED.values()]}
    # dbt has no adapter for these, and DuckDB reads no files there.
    without_dbt = {"AzureCosmosDB", "AzureDataExplorer", "Cassandra", "DBFS", "Kafka", "PubSubNaming"}
    known = {name for name, kind in vars(naming).items() if isinstance(kind, type) and hasattr(kind, "get_namespace")}

    assert known - {"DatasetNaming"} == compared | without_dbt


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"type": "duckdb", "path": "/lake/ann@x.com/shop.db"}, {"type": "duckdb", "path": "/lake/bob@x.com/shop.db"}),
        ({"type": "duckdb", "path": "/data/shop?a.db"}, {"type": "duckdb", "path": "/data/shop?b.db"}),
        ({"type": "fabricspark", "workspaceid": "w1"}, {"type": "fabricspark", "workspaceid": "w2"}),
        (
            {"type": "fabricspark", "workspaceid": "w", "lakehouse": "a"},
            {"type": "fabricspark", "workspaceid": "w", "lakehouse": "b"},
        ),
        (
            {"type": "dremio", "cloud_host": "c", "cloud_project_id": "p1"},
            {"type": "dremio", "cloud_host": "c", "cloud_project_id": "p2"},
        ),
    ],
)
def test_different_tables_are_different_datasets(one: Json, another: Json) -> None:
    orders = ORDERS | {"database": None}

    assert read_warehouse(one, {}).identify(orders).dataset != read_warehouse(another, {}).identify(orders).dataset


def test_lakehouse_without_schemas_is_not_repeated_in_the_name() -> None:
    output = {"type": "fabricspark", "workspaceid": "w", "lakehouse": "sales"}

    identity = read_warehouse(output, {}).identify(ORDERS | {"database": None})

    assert identity.dataset == DatasetName("fabricspark://api.fabric.microsoft.com/w", "sales.orders_v2")


def test_ducklake_as_the_main_database_has_the_name_of_an_attached_one() -> None:
    lake = "ducklake:postgres:host=pg dbname=lake user=u password=pa55"
    main = read_warehouse({"type": "duckdb", "path": lake, "attach": [{"path": lake, "alias": "lake"}]}, {})

    seen_as_main = main.identify(ORDERS | {"database": main.database})
    seen_as_attached = main.identify(ORDERS | {"database": "lake"})

    assert seen_as_main.dataset == seen_as_attached.dataset == DatasetName("ducklake://pg:5432/lake", "sales.orders_v2")
    assert "pa55" not in repr(main)


# Why a name of ours is not the integration's.
DIFFERENCES = {
    "source with an identifier": "the integration takes dbt's name of the source; the table's name is its identifier",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_namespaces_are_those_of_openlineages_dbt_integration(name: str) -> None:
    processor = pytest.importorskip(
        "openlineage.common.provider.dbt.processor", reason="openlineage-integration-common"
    )
    oracle = processor.DbtArtifactProcessor("https://example.com", "jobs")
    output, _ = OUTPUTS[name]
    oracle.extract_adapter_type(output)

    assert read_warehouse(output, {}).namespace == oracle.extract_namespace(output)


@pytest.mark.parametrize(
    "each",
    [
        ORDERS,
        node("orders", database=None, schema="sales", alias="orders"),
        node("Größe", database="My DB", schema="s.with.dots", alias='q"uote'),
        source("erp", "orders", database="db", schema="erp"),
        source("erp", "orders", database="db", schema="erp", identifier="ORDERS_2"),
    ],
    ids=["model", "no database", "odd characters", "source", "source with an identifier"],
)
def test_names_are_those_of_openlineages_dbt_integration(each: Json, request: pytest.FixtureRequest) -> None:
    processor = pytest.importorskip(
        "openlineage.common.provider.dbt.processor", reason="openlineage-integration-common"
    )
    oracle = processor.DbtArtifactProcessor("https://example.com", "jobs")
    kind = "source" if each["resource_type"] == "source" else "model"
    _namespace, theirs, _facets, _input_facets = oracle.extract_dataset_data(processor.ModelNode(kind, each), None)

    ours = read_warehouse({"type": "postgres", "host": "pg"}, {}).identify(each).dataset.name

    case = request.node.callspec.id
    assert (ours == theirs) == (case not in DIFFERENCES)


def test_a_source_has_the_name_of_its_table() -> None:
    orders = source("erp", "orders", database="db", schema="erp", identifier="ORDERS_2")

    identity = read_warehouse({"type": "postgres", "host": "pg"}, {}).identify(orders)

    assert identity.dataset.name == "db.erp.ORDERS_2"


def test_a_node_has_its_name_on_this_target() -> None:
    relation = NodeRelation("other", "dev", "orders")

    identity = read_warehouse({"type": "postgres", "host": "pg"}, {}).identify(ORDERS, relation)

    assert identity.dataset.name == "other.dev.orders"


@pytest.mark.parametrize(
    ("attach", "dataset"),
    [
        (
            {"path": "host=pg.example.com port=5433 dbname=erp user=u password=pa55", "type": "postgres"},
            DatasetName("postgres://pg.example.com:5433", "erp.sales.orders_v2"),
        ),
        (
            {"path": "postgresql://u:pa55@pg.example.com/erp?sslmode=require", "type": "postgres"},
            DatasetName("postgres://pg.example.com:5432", "erp.sales.orders_v2"),
        ),
        (
            {"path": "postgres://u:p/a@55@pg:1/erp"},
            DatasetName("postgres://pg:1", "erp.sales.orders_v2"),
        ),
        (
            {"path": "postgres:host = pg dbname = 'my erp' password='pa 55'"},
            DatasetName("postgres://pg:5432", "my erp.sales.orders_v2"),
        ),
        (
            {"path": "host=/run/postgres dbname=erp 'unclosed", "type": "postgres"},
            DatasetName("postgres://localhost:5432", "erp.sales.orders_v2"),
        ),
        (
            {"path": "host=my user=u password=pa55 database=erp", "type": "mysql"},
            DatasetName("mysql://my:3306", "sales.orders_v2"),
        ),
        ({"path": "/data/erp.sqlite", "type": "sqlite"}, DatasetName("sqlite:///data/erp.sqlite", "sales.orders_v2")),
        ({"path": "/data/erp.db"}, DatasetName("duckdb:///data/erp.db", "erp.sales.orders_v2")),
        ({"path": "/lake/a@b/erp?.db"}, DatasetName("duckdb:///lake/a@b/erp?.db", "erp?.sales.orders_v2")),
        ({"path": "/lake/a@b/x?.db", "type": "sqlite"}, DatasetName("sqlite:///lake/a@b/x?.db", "sales.orders_v2")),
        ({"path": "md:erp?token=pa55"}, DatasetName("duckdb://md:erp", "erp.sales.orders_v2")),
        ({"path": "project=erp", "type": "bigquery"}, DatasetName("bigquery", "erp.sales.orders_v2")),
        (
            {"path": "ducklake:/data/lake.ducklake", "options": {"data_path": "s3://lake/"}},
            DatasetName("ducklake:///data/lake.ducklake", "sales.orders_v2"),
        ),
        (
            {"path": "ducklake:postgres:host=pg dbname=lake user=u password=pa55"},
            DatasetName("ducklake://pg:5432/lake", "sales.orders_v2"),
        ),
        (
            {"path": "ducklake:sqlite:/data/meta.sqlite"},
            DatasetName("ducklake:///data/meta.sqlite", "sales.orders_v2"),
        ),
        (
            {"path": "wh", "type": "iceberg", "options": {"ENDPOINT": "http://u:pa55@polaris:8181/api/catalog/"}},
            DatasetName("http://polaris:8181/api/catalog", "sales.orders_v2"),
        ),
        (
            {"path": "123456789012", "type": "iceberg", "options": {"endpoint_type": "GLUE", "region": "eu-west-1"}},
            DatasetName("arn:aws:glue:eu-west-1:123456789012", "table/sales/orders_v2"),
        ),
        (
            {"path": "arn:aws:s3tables:eu-west-1:1:bucket/b", "type": "iceberg"},
            DatasetName("arn:aws:s3tables:eu-west-1:1:bucket/b", "sales.orders_v2"),
        ),
        ({"path": "x", "type": "somebodys"}, DatasetName("duckdb:///data/shop.duckdb", "db.sales.orders_v2")),
    ],
    ids=lambda value: value["path"] if isinstance(value, dict) else "",
)
def test_an_attached_table_has_the_attached_systems_identity(attach: Json, dataset: DatasetName) -> None:
    output = {"type": "duckdb", "path": "/data/shop.duckdb", "attach": [attach | {"alias": "DB"}]}

    identity = read_warehouse(output, {}).identify(ORDERS)

    assert identity.dataset == dataset
    assert "pa55" not in repr(identity)


def test_an_attached_catalog_is_named() -> None:
    options = {"endpoint": "http://polaris:8181/api/catalog", "secret": "polaris"}
    attach = [
        {"path": "wh", "alias": "db", "type": "iceberg", "options": options},
        {"path": "ducklake:postgres:host=pg dbname=lake", "alias": "lake", "options": {"data_path": "s3://lake/"}},
    ]
    warehouse = read_warehouse({"type": "duckdb", "path": "x.duckdb", "attach": attach}, {})

    iceberg, lake = (warehouse.identify(ORDERS | {"database": name}).catalog for name in ("db", "lake"))

    assert iceberg == Catalog("iceberg", "rest", "db", "http://polaris:8181/api/catalog", "wh")
    assert lake == Catalog("ducklake", "postgres", "lake", "postgres://pg:5432", "s3://lake/")


def test_an_attached_file_without_an_alias_has_its_file_name() -> None:
    output = {"type": "duckdb", "path": "x.duckdb", "attach": [{"path": "/data/db.v1.duckdb"}, "no mapping"]}

    identity = read_warehouse(output, {}).identify(ORDERS)

    assert identity.dataset == DatasetName("duckdb:///data/db.v1.duckdb", "db.sales.orders_v2")


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        ("erp.db", "duckdb:///project/erp.db"),
        ("sqlite:erp.sqlite", "sqlite:///project/erp.sqlite"),
        ("ducklake:lake.ducklake", "ducklake:///project/lake.ducklake"),
        ("ducklake:sqlite:meta.sqlite", "ducklake:///project/meta.sqlite"),
        ("ducklake:postgres:host=pg dbname=lake", "ducklake://pg:5432/lake"),
        ("s3://bucket/erp.db", "duckdb://s3://bucket/erp.db"),
        (":memory:", "duckdb://:memory:"),
    ],
)
def test_relative_paths_start_at_dbts_working_directory(path: str, namespace: str) -> None:
    output = {"type": "duckdb", "path": "x.duckdb", "attach": [{"path": path, "alias": "db"}]}

    identity = read_warehouse(output, {}, PurePosixPath("/project")).identify(ORDERS)

    assert identity.dataset.namespace == namespace


def test_two_computes_name_the_same_postgres_table_alike() -> None:
    path = "host=pg dbname=db user=postgres"
    duckdb = {"type": "duckdb", "path": "x.duckdb", "attach": [{"path": path, "alias": "shop", "type": "postgres"}]}
    postgres = {"type": "postgres", "host": "{{ env_var('PG_HOST') }}", "port": 5432, "dbname": "db"}

    seen_by_duckdb = read_warehouse(duckdb, {}).identify(ORDERS | {"database": "shop"})
    seen_by_postgres = read_warehouse(postgres, {"PG_HOST": "pg"}).identify(ORDERS)

    assert seen_by_duckdb.dataset == seen_by_postgres.dataset


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("{{ env_var('PG_HOST') }}", "postgres://pg.example.com:5432"),
        ("{{ env_var('NO_HOST', 'spare') }}", "postgres://spare:5432"),
        ("{{ env_var('NO_HOST') }}", "postgres://localhost:5432"),
        ("{{ env_var('PG_HOST') | as_text }}", "postgres://pg.example.com:5432"),
        ("{{ target.name }}", "postgres://localhost:5432"),
        ("{{ not closed", "postgres://localhost:5432"),
        ("https://u:pa55@pg.example.com/db?password=pa55", "postgres://pg.example.com:5432"),
        ("u:pa/55@pg.example.com", "postgres://pg.example.com:5432"),
    ],
)
def test_settings_are_rendered_and_nothing_secret_remains(host: str, namespace: str) -> None:
    output = {"type": "postgres", "host": host, "password": "{{ env_var('PG_PASSWORD') }}"}

    assert read_warehouse(output, {"PG_HOST": "pg.example.com"}).namespace == namespace


def test_namespaces_can_be_replaced() -> None:
    output = {
        "type": "duckdb",
        "path": "/runs/1/shop.duckdb",
        "attach": [{"path": "host=pg", "type": "postgres", "alias": "db"}],
    }
    overrides = {
        "duckdb:///runs/1/shop.duckdb": "duckdb://shop",
        "postgres://pg:5432": "postgres://erp",
        "file": "nfs",
    }
    warehouse = read_warehouse(output, {}, overrides=overrides)

    own = warehouse.identify(ORDERS | {"database": "shop"})
    attached = warehouse.identify(ORDERS)
    file = warehouse.identify(source("erp", "orders", relation_name="'data/orders.csv'"))

    assert own.dataset.namespace == warehouse.configured_namespace(warehouse.namespace) == "duckdb://shop"
    assert attached.dataset.namespace == "postgres://erp"
    assert file.location == DatasetName("nfs", "/data/orders.csv")


@pytest.mark.parametrize(
    ("output", "other"),
    [
        (
            {"type": "redshift", "host": "shop.abc.eu-west-1.redshift.amazonaws.com"},
            DatasetName("redshift://shop.eu-west-1:5439", "db.sales.orders_v2"),
        ),
        (
            {"type": "databricks", "host": "https://adb-1.azuredatabricks.net/"},
            DatasetName("unitycatalog://adb-1.azuredatabricks.net", "db.sales.orders_v2"),
        ),
        (
            {"type": "athena", "region_name": "eu-west-1", "assume_role_arn": ACCOUNT},
            DatasetName("arn:aws:glue:eu-west-1:123456789012", "table/sales/orders_v2"),
        ),
        (
            {"type": "glue", "region": "eu-west-1", "role_arn": ACCOUNT},
            DatasetName("arn:aws:glue:eu-west-1:123456789012", "table/sales/orders_v2"),
        ),
        ({"type": "redshift", "host": "localhost"}, None),
        ({"type": "athena", "region_name": "eu-west-1"}, None),
        ({"type": "postgres", "host": "pg"}, None),
    ],
)
def test_other_names_of_a_table_are_included(output: Json, other: DatasetName | None) -> None:
    assert read_warehouse(output, {}).identify(ORDERS).others == ((other,) if other else ())


def test_a_table_outside_unity_catalog_has_no_name_there() -> None:
    warehouse = read_warehouse({"type": "databricks", "host": "h"}, {})

    assert warehouse.identify(ORDERS | {"database": "hive_metastore"}).others == ()
    assert warehouse.identify(ORDERS | {"database": None}).others == ()


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("data/orders.csv", DatasetName("file", "/project/data/orders.csv")),
        ("/mnt/x/*.parquet", DatasetName("file", "/mnt/x/*.parquet")),
        ("file:///mnt/x.csv", DatasetName("file", "/mnt/x.csv")),
        ("s3://lake/in/x.parquet", DatasetName("s3://lake", "in/x.parquet")),
        ("s3a://lake/in", DatasetName("s3://lake", "in")),
        ("gcs://lake/in", DatasetName("gs://lake", "in")),
        ("abfss://box@acc.dfs.core.windows.net/in", DatasetName("abfss://box@acc.dfs.core.windows.net", "in")),
        ("https://u:pa55@example.com/x.csv?sig=pa55", DatasetName("https://example.com", "x.csv")),
        ("https://example.com/a@b.com/x.csv", DatasetName("https://example.com", "a@b.com/x.csv")),
        ("https://u:pa/55@example.com/x.csv", DatasetName("https://example.com", "x.csv")),
        ("https://[::1]:8443/a@b/x.csv", DatasetName("https://[::1]:8443", "a@b/x.csv")),
        ("s3n://AKIA:pa/55@lake/x", DatasetName("s3://lake", "x")),
        ("s3://lake/x.csv?s3_region=r&s3_secret_access_key=pa55/x", DatasetName("s3://lake", "x.csv")),
        ("az://box/x.csv?sv=1&sig=pa55%3D", DatasetName("az://box", "x.csv")),
        ("s3://lake/202?/day=1/x.csv", DatasetName("s3://lake", "202?/day=1/x.csv")),
        ("s3://lake/a?b=c/x.csv", DatasetName("s3://lake", "a?b=c/x.csv")),
    ],
)
def test_files_have_names(location: str, name: DatasetName) -> None:
    assert file_name(location, PurePosixPath("/project")) == name


@pytest.mark.parametrize(
    ("relation_name", "path"),
    [
        ("'data/orders.csv'", "/project/data/orders.csv"),
        ("read_csv('data/it''s.csv', header = true)", "/project/data/it's.csv"),
        ('"db"."erp"."orders"', None),
        ("'{{ not_rendered }}'", None),
    ],
)
def test_a_source_over_a_file_has_the_location_of_the_file(relation_name: str, path: str | None) -> None:
    orders = source("erp", "orders", database="db", relation_name=relation_name)
    warehouse = read_warehouse({"type": "duckdb", "path": "x.duckdb"}, {}, PurePosixPath("/project"))

    identity = warehouse.identify(orders)

    assert identity.dataset.name == "db.erp.orders"
    assert identity.location == (DatasetName("file", path) if path else None)


def test_an_external_materialization_has_the_location_of_its_file() -> None:
    config = {"materialized": "external", "location": "s3://lake/orders.parquet"}
    warehouse = read_warehouse({"type": "duckdb", "path": "x.duckdb"}, {})

    assert warehouse.identify(ORDERS | {"config": config}).location == DatasetName("s3://lake", "orders.parquet")


def test_the_default_database_is_the_outputs() -> None:
    nowhere = ORDERS | {"database": None}

    assert (
        read_warehouse({"type": "duckdb", "path": "/d/shop.v1.duckdb"}, {})
        .identify(nowhere)
        .dataset.name.startswith("shop.")
    )
    assert read_warehouse({"type": "oracle", "service": "ORCL"}, {}).identify(nowhere).dataset.name.startswith("ORCL.")


def test_a_node_without_a_relation_has_its_node_name() -> None:
    identity = read_warehouse({"type": "postgres", "host": "pg"}, {}).identify({"name": "orders"})

    assert identity.dataset.name == "orders"

"""The namespace of a warehouse's datasets, from the dbt output that connects to it.

Where OpenLineage's dbt integration knows an adapter, the namespace is the integration's, so that both producers' graphs
join; else it is that of OpenLineage's naming page, else ``{adapter}://{host}:{port}``.
Naming page: https://openlineage.io/docs/spec/naming
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.lineage.settings import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from floe_orchestrator_dagster.lineage.settings import Settings

_DEFAULT_REGION = "us-west-1"  # what the integration takes an account locator without a region for
_REDSHIFT_HOST = re.compile(r"(?P<cluster>[^.]+)\.[^.]+\.(?P<region>[^.]+)\.redshift(-serverless)?\.amazonaws\.com.*")
_SPARK_PORTS = {"http": 443, "odbc": 443, "thrift": 10001}
_DEFAULT_PORTS = {
    "postgres": 5432,
    "redshift": 5439,
    "clickhouse": 8123,
    "trino": 8080,
    "presto": 8080,
    "mysql": 3306,
    "oracle": 1521,
    "teradata": 1025,
    "sqlserver": 1433,
    "dremio": 9047,
    "db2": 50000,
    "hive": 10000,
    "impala": 21050,
    "vertica": 5433,
    "exasol": 8563,
    "starrocks": 9030,
    "doris": 9030,
    "singlestore": 3306,
    "materialize": 6875,
    "risingwave": 4566,
    "greenplum": 5432,
    "crate": 5432,
    "cratedb": 5432,
}
_HOSTS = ("host", "server", "software_host", "hostname", "endpoint")


def warehouse_namespace(adapter: str, settings: Settings) -> str:
    """Name the datasets' namespace for an output of this adapter; never with a credential in it."""
    named = _NAMESPACES.get(adapter)
    return named(settings) if named else _host_and_port(adapter, settings)


def alternative_namespace(adapter: str, settings: Settings) -> str | None:
    """Name the namespace under which other producers may know the same datasets; None where there is no other."""
    if adapter == "redshift":
        cluster = _REDSHIFT_HOST.fullmatch(settings.host("host"))
        return f"redshift://{cluster['cluster']}.{cluster['region']}:{settings.port(5439)}" if cluster else None
    if adapter == "databricks":
        return f"unitycatalog://{settings.host('host')}"
    if adapter == "athena":
        account = _account_of_role(settings.text("assume_role_arn"))
        return f"arn:aws:glue:{settings.text('region_name')}:{account}" if account else None
    return None


def snowflake_account(account: str) -> str:
    """Name a Snowflake account as the naming page does: ``org-account``, or ``locator.region.cloud``."""
    locator, *place = account.removesuffix(".snowflakecomputing.com").split(".")
    if "-" in locator:
        return locator
    region, *cloud = place or [_DEFAULT_REGION]
    return ".".join([locator, region, *(cloud or ["aws"])])


def database_namespace(path: str) -> str:
    """Name the namespace of a DuckDB database: its file, or ``md:name``; tokens in it are left out."""
    return f"duckdb://{without_credentials(path) or ':memory:'}"


def _host_and_port(scheme: str, settings: Settings) -> str:
    host = settings.host(*_HOSTS) or "localhost"
    port = settings.port(_DEFAULT_PORTS.get(scheme, 0))
    return f"{scheme}://{host}" if port == "0" or ":" in host else f"{scheme}://{host}:{port}"


def _spark(settings: Settings) -> str:
    port = settings.text("port") or _SPARK_PORTS.get(settings.text("method"), "")
    return f"spark://{settings.host('host') or 'localhost'}{f':{port}' if port else ''}"


def _fabric(settings: Settings) -> str:
    port = settings.text("port")
    return f"fabric-warehouse://{settings.host('server', 'host')}{f':{port}' if port else ''}"


def _glue(settings: Settings) -> str:
    account = settings.text("account_id") or _account_of_role(settings.text("role_arn"))
    return f"arn:aws:glue:{settings.text('region')}:{account}"


def _account_of_role(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 5 else ""  # noqa: PLR2004  # arn:partition:service:region:account:resource


def _with(scheme: str, like: str | None = None) -> Callable[[Settings], str]:
    def namespace(settings: Settings) -> str:
        port = settings.port(_DEFAULT_PORTS[like or scheme])
        return f"{scheme}://{settings.host(*_HOSTS) or 'localhost'}:{port}"

    return namespace


_NAMESPACES: dict[str, Callable[[Settings], str]] = {
    "duckdb": lambda settings: database_namespace(settings.text("path")),
    "postgres": _with("postgres"),
    "alloydb": _with("postgres"),
    "redshift": _with("redshift"),
    "snowflake": lambda settings: f"snowflake://{snowflake_account(settings.host('account'))}",
    "bigquery": lambda _: "bigquery",
    "databricks": lambda settings: f"databricks://{settings.host('host')}",
    "spark": _spark,
    "trino": _with("trino"),
    "starburst": _with("trino"),
    "presto": _with("presto"),
    "watsonx_presto": _with("presto"),
    "athena": lambda settings: f"awsathena://athena.{settings.text('region_name')}.amazonaws.com",
    "glue": _glue,
    "clickhouse": _with("clickhouse"),
    "sqlserver": _with("mssql", "sqlserver"),
    "synapse": _with("sqlserver"),
    "fabric": _fabric,
    "dremio": _with("dremio"),
    "mysql": _with("mysql"),
    "mysql5": _with("mysql"),
    "mariadb": _with("mysql"),
    "crate": _with("crate"),
    "cratedb": _with("crate", "cratedb"),
    "sqlite": lambda settings: f"sqlite://{settings.text('schema_directory')}",
}

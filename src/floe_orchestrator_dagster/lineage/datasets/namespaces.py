"""OpenLineage namespaces of warehouses, computed from dbt outputs.

For adapters that OpenLineage's dbt integration supports, the namespace is the same as the integration's, so that the
graphs of both connect. For others it follows OpenLineage's naming page, or is ``{adapter}://{host}:{port}``.
Naming page: https://openlineage.io/docs/spec/naming
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.lineage.datasets.locations import read_location
from floe_orchestrator_dagster.product.templates import rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_DEFAULT_REGION = "us-west-1"  # the integration's region for an account locator without one
_REDSHIFT_HOST = re.compile(r"(?P<cluster>[^.]+)\.[^.]+\.(?P<region>[^.]+)\.redshift(-serverless)?\.amazonaws\.com.*")
_HTTPS_PORT = 443
# Ports by (native protocol, TLS).
_CLICKHOUSE_PORTS = {(False, False): 8123, (False, True): 8443, (True, False): 9000, (True, True): 9440}
_SPARK_PORTS = {"http": 443, "odbc": 443, "thrift": 10001}
_DEFAULT_PORTS = {
    "postgres": 5432,
    "redshift": 5439,
    "trino": 8080,
    "presto": 8080,
    "mysql": 3306,
    "oracle": 1521,
    "teradata": 1025,
    "sqlserver": 1433,
    "dremio": 9047,
    "db2": 50000,
    "oceanbase": 2881,
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
_HOSTS = ("host", "server", "software_host", "hostname", "endpoint", "api_server", "account_name", "account")


def warehouse_namespace(adapter: str, settings: Settings) -> str:
    """Return the namespace of an output's datasets, without credentials."""
    named = _NAMESPACES.get(adapter)
    return named(settings) if named else _host_and_port(adapter, settings)


def alternative_namespace(adapter: str, settings: Settings) -> str | None:
    """Return another namespace that producers use for the same datasets; None when there is none."""
    if adapter == "redshift":
        cluster = _REDSHIFT_HOST.fullmatch(settings.host("host"))
        return f"redshift://{cluster['cluster']}.{cluster['region']}:{settings.port(5439)}" if cluster else None
    if adapter == "databricks":
        return f"unitycatalog://{settings.host('host')}"
    if adapter == "athena":
        account = _account_of_role(settings.text("assume_role_arn"))
        return f"arn:aws:glue:{settings.text('region_name')}:{account}" if account else None
    if adapter == "glue":
        return _glue(settings)
    return None


def snowflake_account(account: str) -> str:
    """Return a Snowflake account in the naming page's form: ``org-account``, or ``locator.region.cloud``."""
    locator, *place = account.removesuffix(".snowflakecomputing.com").split(".")
    if "-" in locator:
        return locator
    region, *cloud = place or [_DEFAULT_REGION]
    return ".".join([locator, region, *(cloud or ["aws"])])


def database_namespace(path: str) -> str:
    """Return the namespace of a DuckDB database: its file, or ``md:name``, without logins and tokens."""
    motherduck = motherduck_database(path)
    if motherduck is not None:
        return f"duckdb://{path.partition(':')[0]}:{motherduck}"
    return f"duckdb://{read_location(path) if path else ':memory:'}"


def motherduck_database(path: str) -> str | None:
    """Return the database in ``md:name?motherduck_token=…``; None for a path without MotherDuck's prefix."""
    scheme, colon, rest = path.partition(":")
    return rest.partition("?")[0] if colon and scheme in {"md", "motherduck"} else None


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


def _fabric_spark(settings: Settings) -> str:
    """Return the workspace's namespace; all workspaces have the same endpoint."""
    host = settings.host("endpoint", "host") or "api.fabric.microsoft.com"
    workspace = settings.text("workspaceid", "workspace_id", "workspace")
    return f"fabricspark://{host}/{workspace}" if workspace else f"fabricspark://{host}"


def _dremio(settings: Settings) -> str:
    """Return the server's namespace, or that of a project in Dremio Cloud, where all projects have the same host."""
    cloud = settings.host("cloud_host")
    if not cloud:
        return _with("dremio")(settings)
    project = settings.text("cloud_project_id")
    address = f"dremio://{cloud}:{settings.port(_HTTPS_PORT)}"
    return f"{address}/{project}" if project else address


def _exasol(settings: Settings) -> str:
    """Return the namespace of the first node in ``host:port,host:port``."""
    node = settings.host("dsn", *_HOSTS).partition(",")[0] or "localhost"
    return f"exasol://{node}" if ":" in node else f"exasol://{node}:{_DEFAULT_PORTS['exasol']}"


def _oracle(settings: Settings) -> str:
    name = settings.text("tns_name")
    return f"oracle://{name}" if name and not settings.host("host") else _with("oracle")(settings)


def _clickhouse(settings: Settings) -> str:
    is_native, is_secure = settings.text("driver") == "native", settings.text("secure").lower() == "true"
    return (
        f"clickhouse://{settings.host(*_HOSTS) or 'localhost'}:{settings.port(_CLICKHOUSE_PORTS[is_native, is_secure])}"
    )


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
    "clickhouse": _clickhouse,
    "sqlserver": _with("mssql", "sqlserver"),
    "synapse": _with("sqlserver"),
    "fabric": _fabric,
    "fabricspark": _fabric_spark,
    "dremio": _dremio,
    "oracle": _oracle,
    "exasol": _exasol,
    "ibmdb2": _with("db2"),
    "oceanbase": _with("oceanbase"),
    "oceanbase_mysql": _with("oceanbase"),
    "mysql": _with("mysql"),
    "mysql5": _with("mysql"),
    "mariadb": _with("mysql"),
    "crate": _with("crate"),
    "cratedb": _with("crate", "cratedb"),
    "sqlite": lambda settings: f"sqlite://{settings.text('schema_directory')}",
}


@dataclass(frozen=True)
class Settings:
    """Settings of an output or an attached database.

    Attributes:
        content: The settings in ``profiles.yml``; values may be templates.
        environment: The environment variables that ``env_var()`` reads.
    """

    content: Mapping[str, Any]
    environment: Mapping[str, str]

    def text(self, *names: str) -> str:
        """Render the first of these settings that is set; empty when none is set or it cannot be rendered."""
        value = next((self.content[name] for name in names if self.content.get(name) not in {None, ""}), "")
        text = str(value).strip()
        return rendered(text, self.environment) or ""

    def host(self, *names: str) -> str:
        """Render a host name, without a scheme, user or path around it.

        For a directory of Unix sockets, the host is ``localhost``.
        """
        text = self.text(*names)
        text = (text.partition("://")[2] or text).rpartition("@")[2].partition("?")[0]
        return text.split("/", maxsplit=1)[0] or ("localhost" if text else "")

    def port(self, default: int) -> str:
        """Render the port, with the adapter's ``default``."""
        return self.text("port") or str(default)

    def sequence(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the mappings in a list; empty when the setting is missing or not a list."""
        value = self.content.get(name)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

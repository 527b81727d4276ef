"""OpenLineage names of tables in databases that DuckDB attaches.

dbt-duckdb's `attach`: https://github.com/duckdb/dbt-duckdb#attaching-additional-databases
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from floe_orchestrator_dagster.lineage.datasets.locations import read_location, without_login
from floe_orchestrator_dagster.lineage.datasets.namespaces import Settings, database_namespace, motherduck_database

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PATH_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z_]+):(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_QUALIFIED = "{database}.{schema}.{table}"
_IN_CATALOG = "{schema}.{table}"
_IN_GLUE = "table/{schema}/{table}"


@dataclass(frozen=True)
class Catalog:
    """The catalog that a table is registered in.

    Attributes:
        framework: The table format, such as ``iceberg``.
        type: The kind of catalog, such as ``rest``.
        name: Its name in DuckDB.
        metadata_uri: URI of the catalog; None when unknown.
        warehouse_uri: URI of the data; None when unknown.
    """

    framework: str
    type: str
    name: str
    metadata_uri: str | None = None
    warehouse_uri: str | None = None


@dataclass(frozen=True)
class Attachment:
    """An attached database.

    Attributes:
        namespace: Namespace of the attached system's datasets.
        database: Name of the database in the attached system.
        pattern: Format of dataset names, with ``database``, ``schema`` and ``table``.
        catalog: The catalog; None for a plain database.
    """

    namespace: str
    database: str = ""
    pattern: str = _QUALIFIED
    catalog: Catalog | None = None

    def name(self, schema: str, table: str) -> str:
        """Return the dataset name of a table."""
        return self.pattern.format(database=self.database, schema=schema, table=table)


def read_attachments(settings: Settings, directory: PurePosixPath) -> dict[str, Attachment]:
    """Read the databases that a DuckDB output attaches, by alias in lower case.

    Relative paths start at ``directory``. Databases of unknown kinds are left out, so that their tables have names like
    DuckDB's own tables.
    """
    attachments: dict[str, Attachment] = {}
    for entry in settings.sequence("attach"):
        one = Settings({**_lower(settings=entry.get("options")), **entry}, settings.environment)
        scheme, path = _scheme_and_path(one.text("path"))
        kind = (one.text("type") or scheme or "duckdb").lower()
        alias = one.text("alias") or database_name(path)
        attached = _KINDS.get(kind)
        if attached is not None:
            attachments[alias.lower()] = attached(_absolute(kind, path, directory), alias, one)
    return attachments


def database_name(path: str) -> str:
    """Return the name that DuckDB gives to a database: the file name up to the first dot."""
    motherduck = motherduck_database(path)
    if motherduck is not None:
        return motherduck or "my_db"
    scheme, rest = _scheme_and_path(path)
    if scheme in {"postgres", "postgresql", "mysql"}:
        return _connection(_as_url(rest)).get("dbname", scheme)
    if scheme:
        return database_name(rest)
    return PurePosixPath(read_location(path).path).name.lstrip(".").split(".")[0] or "memory"


def attached_as_main(path: str, settings: Settings, directory: PurePosixPath) -> Attachment | None:
    """Read a DuckDB output whose ``path`` is a DuckLake or a database of another system; None for a DuckDB file."""
    scheme, _ = _scheme_and_path(path)
    if scheme in {"", "duckdb", "md", "motherduck"}:
        return None
    [attached] = read_attachments(Settings({"attach": [{"path": path}]}, settings.environment), directory).values()
    return attached


def _duckdb(path: str, _alias: str, _settings: Settings) -> Attachment:
    return Attachment(database_namespace(path), database_name(path))


def _postgres(path: str, _alias: str, _settings: Settings) -> Attachment:
    server = _connection(path)
    host = server.get("host") or server.get("hostaddr") or "localhost"
    host, port = "localhost" if host.startswith("/") else host, server.get("port") or "5432"
    database = server.get("dbname") or server.get("database") or server.get("user") or "postgres"
    return Attachment(f"postgres://{host}:{port}", database)


def _as_url(path: str) -> str:
    """Restore the scheme of a URL that was split off as DuckDB's prefix for the kind of database."""
    return f"postgresql:{path}" if path.startswith("//") else path


def _mysql(path: str, _alias: str, _settings: Settings) -> Attachment:
    server = _connection(path)
    host, port = server.get("host") or "localhost", server.get("port") or "3306"
    return Attachment(f"mysql://{host}:{port}", pattern=_IN_CATALOG)


def _sqlite(path: str, _alias: str, _settings: Settings) -> Attachment:
    return Attachment(f"sqlite://{path}", pattern=_IN_CATALOG)


def _bigquery(path: str, alias: str, _settings: Settings) -> Attachment:
    return Attachment("bigquery", _connection(path).get("project") or alias)


def _ducklake(path: str, alias: str, settings: Settings) -> Attachment:
    """Name a DuckLake after its metadata database, which can contain one lake per schema."""
    scheme, metadata = _scheme_and_path(path)
    metadata_database = (
        _KINDS[scheme](metadata, alias, settings) if scheme in _METADATA_DATABASES else _duckdb(path, alias, settings)
    )
    server = metadata_database.namespace.partition("://")[2]
    place = (
        f"{server}/{metadata_database.database}"
        if metadata_database.database and scheme in {"postgres", "mysql"}
        else server
    )
    warehouse = str(read_location(settings.text("data_path"))) or None
    catalog = Catalog("ducklake", scheme or "duckdb", alias, metadata_database.namespace, warehouse)
    return Attachment(f"ducklake://{place}", pattern=_IN_CATALOG, catalog=catalog)


def _iceberg(path: str, alias: str, settings: Settings) -> Attachment:
    endpoint = str(read_location(settings.text("endpoint", "catalog_uri", "uri"))).rstrip("/")
    kind = settings.text("endpoint_type").lower() or ("s3_tables" if path.startswith("arn:aws:s3tables:") else "rest")
    if kind == "glue":
        account = path.split(":", maxsplit=1)[0]
        region = settings.text("region", "default_region")
        catalog = Catalog("iceberg", "glue", alias, endpoint or None)
        return Attachment(f"arn:aws:glue:{region}:{account}", pattern=_IN_GLUE, catalog=catalog)
    if kind == "s3_tables":
        return Attachment(path, pattern=_IN_CATALOG, catalog=Catalog("iceberg", "s3tables", alias, endpoint or None))
    catalog = Catalog("iceberg", "rest", alias, endpoint or None, path or None)
    return Attachment(endpoint or f"iceberg://{path or alias}", pattern=_IN_CATALOG, catalog=catalog)


_METADATA_DATABASES = ("postgres", "mysql", "sqlite", "duckdb")
_KINDS: dict[str, Callable[[str, str, Settings], Attachment]] = {
    "duckdb": _duckdb,
    "md": lambda path, alias, settings: _duckdb(f"md:{path}", alias, settings),
    "motherduck": lambda path, alias, settings: _duckdb(f"md:{path}", alias, settings),
    "postgres": lambda path, alias, settings: _postgres(_as_url(path), alias, settings),
    "postgresql": lambda path, alias, settings: _postgres(_as_url(path), alias, settings),
    "postgres_scanner": _postgres,
    "mysql": _mysql,
    "sqlite": _sqlite,
    "bigquery": _bigquery,
    "ducklake": _ducklake,
    "iceberg": _iceberg,
}


def _absolute(kind: str, path: str, directory: PurePosixPath) -> str:
    """Make the path of a local file absolute; for a DuckLake, the path of its metadata file."""
    if kind == "ducklake":
        scheme, metadata = _scheme_and_path(path)
        metadata_database = _absolute(scheme or "duckdb", metadata, directory)
        return f"{scheme}:{metadata_database}" if scheme else metadata_database
    is_file = kind in {"duckdb", "sqlite"} and "://" not in path and path not in {"", ":memory:"}
    return str(directory / path) if is_file else path


def _scheme_and_path(path: str) -> tuple[str, str]:
    """Split a path such as ``ducklake:metadata.db``; the scheme is empty for paths and URLs that DuckDB opens."""
    match = _PATH_SCHEME.fullmatch(path)
    if match is None or match["scheme"].lower() not in _KINDS:
        return "", path
    return match["scheme"].lower(), match["path"]


def _connection(path: str) -> Mapping[str, str]:
    """Parse libpq's ``key=value`` pairs or a URL, without passwords."""
    if "://" in path:
        authority, _, rest = path.partition("://")[2].partition("/")
        server, database = without_login(authority, f"/{rest}")
        host, _, port = server.partition(":")
        return {"host": host, "port": port, "dbname": unquote(database.partition("?")[0].strip("/"))}
    text = re.sub(r"\s*=\s*", "=", path)
    try:
        words = shlex.split(text)
    except ValueError:  # an unclosed quote
        words = text.split()
    pairs = (word.partition("=") for word in words)
    return {name: value for name, _, value in pairs if name not in {"password", "passwd"}}


def _lower(settings: object) -> dict[str, object]:
    return {str(name).lower(): value for name, value in settings.items()} if isinstance(settings, dict) else {}

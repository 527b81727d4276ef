"""Comparison of tables on two connections: whether the names of a node on both certainly mean one table.

Only what needs no default of a driver and no file of the machine is certain. Tables in DuckDB files and on PostgreSQL
are compared, and those of two outputs that differ in nothing but their threads and Snowflake's warehouse.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.project import PROJECT_FILE
from floe_orchestrator_dagster.product.templates import rendered
from floe_orchestrator_dagster.product.trimming import READS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.product.values import DbtConnection

    Node = Mapping[str, Any]

NAMING_SETTINGS = ("database", "dbname", "catalog", "project", "schema", "dataset", "path")
"""Settings from which dbt takes the names of tables when it parses. A run can have other values of variables."""
_NAMES = ("database", "schema", "alias")
# Names that every database reads alike, whether they are quoted or not.
_PLAIN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SPECIAL_DUCKDB = frozenset({"database", "is_ducklake", "plugins", "remote", "secrets"})
_ATTACHED = frozenset({"alias", "path", "read_only", "type"})
_OF_LOGIN = frozenset({"password", "sslmode", "user"})
_SERVER = ("host", "port", "dbname")
_VARIABLE = "env_var"
# Value of a setting that only dbt can render. It is false, and YAML has no such value.
_UNKNOWN = ()


def is_same_table(builder: DbtConnection, built: Node, reader: DbtConnection, read: Node) -> bool:
    """Return whether the table that one connection builds is certainly the one that another one reads.

    Args:
        builder: The connection that builds the table.
        built: The node in the manifest of that connection.
        reader: The connection that reads the table.
        read: The node in the manifest of that one.
    """
    if any(_is_named_by_variables(*pair) for pair in ((builder, built), (reader, read))):
        return False
    one, other = map(_settings, (builder, reader))
    if _UNKNOWN not in one.values() and one == other:
        return all(built.get(name) == read.get(name) for name in (*_NAMES, "relation_name"))
    place = _place(one, built)
    return place is not None and place == _place(other, read)


def _output(connection: DbtConnection) -> Mapping[str, Any]:
    return connection.profile.outputs.get(connection.profile.target or "", {})


def _is_named_by_variables(connection: DbtConnection, node: Node) -> bool:
    """Return whether the names of a table may come from environment variables, which a run can have otherwise."""
    output, written = _output(connection), node.get("unrendered_config") or {}
    read = (node.get(READS) or {}).get("environment", ())
    return (
        any("{" in str(output.get(name) or "") for name in NAMING_SETTINGS)
        or read is None
        or bool(read)
        or any(_VARIABLE in str(written.get(name)) for name in _NAMES)
        or any(_VARIABLE in text for text in _properties(connection, node))
    )


def _properties(connection: DbtConnection, node: Node) -> list[str]:
    """Return the YAML files with settings of a node; one that cannot be read counts as reading variables."""
    named = [str(node.get("patch_path") or "").rpartition("://")[2], str(node.get("original_file_path") or "")]
    names = [name for name in named if name.endswith((".yml", ".yaml"))]
    project = connection.directory
    directories = [project.path, *(file.parent for file in project.packages_path.glob(f"*/{PROJECT_FILE}"))]
    files = [file for name in names for directory in directories if (file := directory / name).is_file()]
    try:
        return [file.read_text(encoding="utf-8") for file in files] if files or not names else [_VARIABLE]
    except (OSError, UnicodeDecodeError):
        return [_VARIABLE]


def _settings(connection: DbtConnection) -> dict[str, object]:
    """Return the settings of a connection that determine which tables it reads, with the values of variables."""
    output = _output(connection)
    ignored = {"threads", *(["warehouse"] if output.get("type") == "snowflake" else [])}
    return {name: _value(value, connection) for name, value in output.items() if name not in ignored}


def _value(value: object, connection: DbtConnection) -> object:
    """Return the value of a setting, without its templates."""
    if isinstance(value, str):
        text = rendered(value, connection.profile.environment)
        return _UNKNOWN if text is None else text
    return _UNKNOWN if isinstance(value, (dict, list)) and "{{" in str(value) else value


def _place(settings: Mapping[str, Any], node: Node) -> tuple[str, ...] | None:
    """Return where a table is, on whichever connection; None if that is not certain."""
    database, schema, table = (str(node.get(name) or "") for name in _NAMES)
    if not all(map(_PLAIN.fullmatch, (schema, table))):
        return None
    adapter = settings.get("type")
    if adapter == "postgres":
        found = _server(settings) if database == settings.get("dbname") else None
    else:
        found = _duckdb(settings, database) if adapter == "duckdb" else None
    return (*found, schema, table) if found is not None else None


def _duckdb(settings: Mapping[str, Any], database: str) -> tuple[str, ...] | None:
    """Return the file or server behind a name of a database on DuckDB: its own file, or what it attaches."""
    attached = settings.get("attach", [])
    if settings.keys() & _SPECIAL_DUCKDB or not isinstance(attached, list):
        return None
    # DuckDB names the database of a file after the file.
    entries = [{"alias": _stem(settings.get("path")), "path": settings.get("path")}, *attached]
    if not all(isinstance(entry, dict) and isinstance(entry.get("alias"), str) for entry in entries):
        return None
    named = [entry for entry in entries if entry["alias"].lower() == database.lower()]
    if len(named) != 1 or named[0].keys() - _ATTACHED:
        return None
    path = named[0].get("path")
    if named[0].get("type") == "postgres":
        return _server_of_text(path) if isinstance(path, str) else None
    is_file = named[0].get("type") in {None, "duckdb"} and isinstance(path, str) and path.startswith("/")
    return ("duckdb", os.path.realpath(path)) if is_file and path is not None else None


def _stem(path: object) -> str:
    name = os.path.basename(path) if isinstance(path, str) else ""  # noqa: PTH119  # the name itself
    return name.partition(".")[0]


def _server_of_text(text: str) -> tuple[str, ...] | None:
    """Return the server and database in PostgreSQL's `name=value` pairs; None with others than the plain ones."""
    pairs = [pair.partition("=") for pair in text.split(" ") if pair]
    settings = {name: value for name, _, value in pairs}
    is_plain = len(settings) == len(pairs) and not settings.keys() - _OF_LOGIN - {*_SERVER}
    return _server(settings) if is_plain and not any(sign in text for sign in "'\"\\{\t\n") else None


def _server(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return a server and database of PostgreSQL; None without an explicit host and port."""
    server = [str(settings.get(name) or "") for name in _SERVER]
    return ("postgres", *server) if all(server) and "," not in server[0] else None

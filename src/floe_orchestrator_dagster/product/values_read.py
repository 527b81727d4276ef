"""Values that the code of dbt nodes reads in each invocation: variables, environment variables, and changing ones.

Code is searched as text, without a parser of Jinja. In doubt, a value counts as read: a computed name counts as any
variable, and the name of a macro that runs a query counts as a query wherever it occurs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = r"""\s*\(\s*(?:'([^'\\{}]*)'|"([^"\\{}]*)")\s*[,)]"""
# Two patterns for each function: a call with a literal name, and any use of the function.
_VARIABLES = re.compile(rf"\bvar(?:\.has_var)?{_NAME}"), re.compile(r"\bvar\b")
_ENVIRONMENT = re.compile(rf"\benv_var{_NAME}"), re.compile(r"\benv_var\b|\bdbt_metadata_envs\b")
# Names in dbt's templates whose value can differ in each invocation, or that return the result of a query: variables,
# functions and macros of dbt, and macros that several adapters have.
_CHANGING = re.compile(
    r"""\b(?:
    run_query|statement|load_result|load_relation|load_cached_relation|get_or_create_relation|get_columns_in_\w+
    |get_column_schema_from_query|get_column_values|get_intervals_between|date_spine|dates_in_range|partition_range
    |list_schemas|list_relations\w*|check_schema_exists|get_catalog\w*|get_relation\w*|get_show_\w+|location_exists
    |run_started_at|invocation_id|invocation_args_dict|selected_resources|thread_id|flags|py_current_timestring
    |(?:adapter|api)\s*\.\s*(?!dispatch\b|quote\w*\b)\w+
    |modules\s*(?:\.\s*(?!re\b|itertools\b)\w+|(?!\s*\.))
    )\b|\badapter\b(?!\s*\.)""",
    re.VERBOSE,
)
# Functions of databases that read files or other databases.
_FILES = re.compile(
    r"\b(?P<function>read_\w+|parquet_scan|csv_scan|delta_scan|iceberg_scan|sqlite_scan|sniff_csv|glob|dblink\w*"
    r"|(?:postgres|mysql)_(?:scan|query)\w*|openrowset|external_query|table_function)\s*\(|\b(?:from|join)\s+'",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# `this` in a template: the table that the code builds.
_OWN_TABLE = re.compile(r"\{[{%](?:(?!\}\}|%\}).)*\bthis\b", re.DOTALL)


@dataclass(frozen=True)
class ValuesRead:
    """Values that code reads in each invocation.

    Attributes:
        variables: Names of dbt variables; None for any.
        environment: Names of environment variables; None for any.
        changing: Other names in the code whose value can differ in each invocation, such as ``run_query``.
    """

    variables: frozenset[str] | None = frozenset()
    environment: frozenset[str] | None = frozenset()
    changing: frozenset[str] = field(default=frozenset())

    def __or__(self, other: ValuesRead) -> ValuesRead:
        """Return the values that at least one of the two reads."""
        return ValuesRead(
            _union(self.variables, other.variables),
            _union(self.environment, other.environment),
            self.changing | other.changing,
        )


NOTHING_READ = ValuesRead()


def values_read(texts: Iterable[str]) -> ValuesRead:
    """Return the variables and environment variables that pieces of code read."""
    read = NOTHING_READ
    for text in texts:
        read |= _names_in(text)
    return read


def values_read_in_yaml(text: str) -> ValuesRead:
    """Return the variables and environment variables that the templates in a YAML file read."""
    return values_read(_TEMPLATE.findall(text))


def changing_values(texts: Iterable[str]) -> frozenset[str]:
    """Return the names in pieces of code whose value can differ in each invocation, and functions that read files."""
    return frozenset[str]().union(*map(_changing_in, texts))


def reads_own_table(texts: Iterable[str]) -> bool:
    """Return whether templates in pieces of code name the table that the code builds (``this``)."""
    return any(map(_OWN_TABLE.search, texts))


@lru_cache(maxsize=10_000)
def _names_in(text: str) -> ValuesRead:
    read = ValuesRead(_names(text, *_VARIABLES), _names(text, *_ENVIRONMENT))
    return NOTHING_READ if read == NOTHING_READ else read  # one object in the cache for most texts


def _names(text: str, literal_call: re.Pattern[str], any_use: re.Pattern[str]) -> frozenset[str] | None:
    """Return the names in calls with a literal name; None when the function is also used in another way."""
    if not any_use.search(text):
        return frozenset()
    names = frozenset(single or double for single, double in literal_call.findall(text))
    return None if any_use.search(literal_call.sub("", text)) else names


@lru_cache(maxsize=10_000)
def _changing_in(text: str) -> frozenset[str]:
    found = [match.group() for match in _CHANGING.finditer(text)]
    found += [match["function"] or "a file" for match in _FILES.finditer(text)]
    return frozenset(" ".join(name.split()) for name in found)


def _union(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    return None if first is None or second is None else first | second

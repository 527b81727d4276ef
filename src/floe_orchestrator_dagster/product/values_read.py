"""Variables and environment variables that the code of dbt nodes reads in each invocation.

Code is searched as text, without a parser of Jinja. In doubt, a value counts as read: a computed name counts as any
variable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = r"""\s*\(\s*(?:'([^'\\{}]*)'|"([^"\\{}]*)")\s*[,)]"""
# Two patterns for each function: a call with a literal name, and any use of the function.
_VARIABLES = re.compile(rf"\bvar(?:\.has_var)?{_NAME}"), re.compile(r"\bvar\b")
_ENVIRONMENT = re.compile(rf"\benv_var{_NAME}"), re.compile(r"\benv_var\b|\bdbt_metadata_envs\b")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


@dataclass(frozen=True)
class ValuesRead:
    """Values that code reads in each invocation.

    Attributes:
        variables: Names of dbt variables; None for any.
        environment: Names of environment variables; None for any.
    """

    variables: frozenset[str] | None = frozenset()
    environment: frozenset[str] | None = frozenset()

    def __or__(self, other: ValuesRead) -> ValuesRead:
        """Return the values that at least one of the two reads."""
        return ValuesRead(
            _union(self.variables, other.variables),
            _union(self.environment, other.environment),
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


def _union(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    return None if first is None or second is None else first | second

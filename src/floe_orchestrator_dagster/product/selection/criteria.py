"""Grammar of dbt selections: unions of intersections of criteria with graph operators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CRITERION = re.compile(
    r"(?P<childrens_parents>@)?"
    r"(?P<parents>(?P<parents_depth>\d*)\+)?"
    r"(?:(?P<method>[\w.]+):)?(?P<value>.*?)"
    r"(?P<children>\+(?P<children_depth>\d*))?\Z"
)
_FILES = (".sql", ".py", ".csv")


class UnreadableSelectionError(ValueError):
    """A selection that is not valid. Callers report it as an error of this package."""


@dataclass(frozen=True)
class Criterion:
    """One method of a selection with its value and its graph operators.

    Attributes:
        method: Name of the method, such as ``tag``.
        arguments: Names after the method, such as ``("materialized",)`` in ``config.materialized:table``.
        value: The value to match, often a pattern.
        childrens_parents: Whether children, and all parents of these, are added (``@``).
        parents: Whether parents are added, up to ``parents_depth`` steps; None for all.
        children: Whether children are added, up to ``children_depth`` steps; None for all.
        number: The value of a YAML selector if it is not a string. dbt-core compares it with settings as it is.
    """

    method: str
    arguments: tuple[str, ...]
    value: str
    childrens_parents: bool
    parents: bool
    parents_depth: int | None
    children: bool
    children_depth: int | None
    number: float | None = None


def read_criteria(selection: str) -> Iterator[tuple[str, list[Criterion]]]:
    """Read a selection.

    Yields:
        Each part of the union as it is written, with the criteria that a node of this part must meet.

    Raises:
        UnreadableSelectionError: The selection is not valid.
    """
    for part in " ".join(selection.split()).split(" "):
        yield part, [read_criterion(text) for text in part.split(",")]


def read_criterion(text: str) -> Criterion:
    """Read one method with its value and its graph operators.

    Raises:
        UnreadableSelectionError: The text is not a criterion.
    """
    found = _CRITERION.match(text)
    if found is None:
        raise UnreadableSelectionError(f"{text!r} is not a criterion")
    if found["childrens_parents"] and found["children"]:
        raise UnreadableSelectionError(f"{text!r} has the prefix '@' and the suffix '+', which exclude each other")
    method, *arguments = found["method"].split(".") if found["method"] else [default_method(found["value"])]
    return Criterion(
        method,
        tuple(arguments),
        found["value"],
        childrens_parents=bool(found["childrens_parents"]),
        parents=bool(found["parents"]),
        parents_depth=_depth(found["parents_depth"]),
        children=bool(found["children"]),
        children_depth=_depth(found["children_depth"]),
    )


def default_method(value: str) -> str:
    """Return the method of a criterion without one, which dbt derives from its value."""
    if "/" in value:
        return "path"
    return "file" if value.lower().endswith(_FILES) else "fqn"


def _depth(digits: str | None) -> int | None:
    return int(digits) if digits else None

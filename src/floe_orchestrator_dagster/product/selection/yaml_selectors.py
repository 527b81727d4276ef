"""YAML selectors of a dbt project, with the definitions that dbt writes into the manifest.

Syntax: https://docs.getdbt.com/reference/node-selection/yaml-selectors. dbt-core and dbt v2 write a definition in
different forms. dbt v2 resolves inheritance (``method: selector``) and dbt-core does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.selection.criteria import (
    Criterion,
    UnreadableSelectionError,
    default_method,
    read_criterion,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXCLUDE = "exclude"
_SETS = ("union", "intersection")


@dataclass(frozen=True)
class YamlSelector:
    """A selector of the manifest.

    Attributes:
        definition: Its definition.
        matched: Returns the unique ids that a criterion matches.
        is_of_core: Whether dbt-core wrote the definition. In a union or intersection, dbt-core treats an entry with a
            method and ``exclude`` as an exclusion only, and ignores the method.
    """

    definition: object
    matched: Callable[[Criterion], set[str]]
    is_of_core: bool

    def unique_ids(self) -> set[str]:
        """Return the unique ids of the nodes that the selector matches.

        Raises:
            UnreadableSelectionError: The definition is not valid.
        """
        return self._of(self.definition)

    def _of(self, definition: object) -> set[str]:
        if isinstance(definition, str):
            return self.matched(read_criterion(definition))
        if not isinstance(definition, Mapping):
            raise UnreadableSelectionError(f"its definition has {definition!r}, which is not a method with a value")
        kind = next((kind for kind in _SETS if kind in definition), None)
        if kind is not None:
            return self._of_set(kind, _listed(definition[kind]))
        matched = self.matched(_criterion(definition))
        return matched - self._excluded(definition[_EXCLUDE]) if _EXCLUDE in definition else matched

    def _of_set(self, kind: str, parts: Sequence[object]) -> set[str]:
        exclusions = [part for part in parts if self._is_exclusion(part)]
        included = [self._of(part) for part in parts if part not in exclusions]
        if not included:
            return set()
        found = set.union(*included) if kind == "union" else set.intersection(*included)
        return found.difference(*(self._excluded(part[_EXCLUDE]) for part in exclusions if isinstance(part, Mapping)))

    def _is_exclusion(self, part: object) -> bool:
        return isinstance(part, Mapping) and _EXCLUDE in part and (self.is_of_core or len(part) == 1)

    def _excluded(self, definitions: object) -> set[str]:
        return set[str]().union(*(self._of(definition) for definition in _listed(definitions)))


def _listed(parts: object) -> Sequence[object]:
    return parts if isinstance(parts, list) else [parts]


def _criterion(definition: Mapping[str, Any]) -> Criterion:
    """Read a method with its value; the short form has the method as its only key."""
    if "value" in definition:
        method, value = definition.get("method"), definition["value"]
    else:
        method, value = next(((key, value) for key, value in definition.items() if key != _EXCLUDE), (None, None))
    if method is None and value is None and _EXCLUDE in definition:
        what = "its definition has `exclude` before a method, and dbt-core then leaves the method out of its manifest"
        raise UnreadableSelectionError(f"{what}. Write `method` and `value` before `exclude`")
    if not isinstance(value, (str, bool, int, float)):
        raise UnreadableSelectionError(f"its definition has the value {value!r}, which must be a string")
    if method == "config":
        what = "its definition has the method 'config' without a setting, as in config.materialized"
        raise UnreadableSelectionError(f"{what}. dbt v2 leaves the setting out of its manifest")
    text = str(value)
    name, *arguments = str(method).split(".") if method else [default_method(text)]
    return Criterion(
        name,
        tuple(arguments),
        text,
        childrens_parents=bool(definition.get("childrens_parents")),
        parents=bool(definition.get("parents")),
        parents_depth=_depth(definition.get("parents_depth")),
        children=bool(definition.get("children")),
        children_depth=_depth(definition.get("children_depth")),
        number=None if isinstance(value, str) else value,
    )


def _depth(value: object) -> int | None:
    return int(str(value)) if str(value or "").isdigit() else None

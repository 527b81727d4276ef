"""Reading of the configuration, with all its problems at once.

A refused value does not prevent the check of the others: it is removed or replaced with a valid one, and the
configuration is read again.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from floe_orchestrator_dagster.config.contradictions import contradictions
from floe_orchestrator_dagster.config.models import CORRECT_IT, config_path
from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.wording import closest, did_you_mean, is_of_wrong_type, type_of, validation_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic_core import ErrorDetails

    from floe_orchestrator_dagster.config import DagsterConfig


_ENTRY = re.compile(r"\b(?P<section>\w+)\[(?P<row>\d+)\]")
# Message and fix for a value that does not match a pattern, by pattern.
_FORMS: Mapping[str, tuple[str, str]] = {
    r"^[A-Za-z0-9_]+$": ("may have letters, digits and _ only", "Write it like `after_lunch`."),
    r"^[A-Za-z0-9_.-]+$": ("may have letters, digits and _ . - only", "Write it like `retail`."),
    r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$": ("is not a Kubernetes quantity", "Write it like `500m`, `2` or `512Mi`."),
    r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/]\S*$": (
        "is not the address of a web page",
        "Write it like `https://docs.example.com/retail`.",
    ),
    r"^(/|~/|[A-Za-z][A-Za-z0-9+.-]*://|\{\{)": (
        "is neither an absolute directory nor a URL",
        "Write it like `s3://example-bucket/dbt-state` or `/var/lib/floe/state`.",
    ),
    r"^(/|~/)": ("is not an absolute directory", "Start it with `/` or `~/`."),
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$": ("is not a valid name of a header", "Write it like `Authorization`."),
    r"^\S*$": ("must not contain spaces", "Write it like `retail_warehouse`."),
    r"^[A-Za-z_][A-Za-z0-9_]*$": ("is not a valid name of a variable", "Write it like `DAGSTER_AUTHORIZATION`."),
    r"^([01]\d|2[0-3]):[0-5]\d$": ("is not a time of the day", 'Write it in quotes, like `"22:00"`.'),
}
# The number of parts of a location such as ("jobs", "name").
_KEY_IN_A_SECTION = 2
# Keys of list entries that are not needed to check the rest of the entry. Their refused values are removed.
_REMOVABLE = frozenset(
    {"tags", "description", "enabled", "timezone", "vars", "time_column", "resources", "max", "quiet_hours"}
)
_NAMED = {"jobs": "job", "schedules": "schedule", "sensors": "sensor", "alerts": "alert"}
_UNKNOWN = "extra_forbidden"
_UNION = "union_tag"
# Valid values that replace refused ones in list entries.
_STAND_INS: Mapping[str, str] = {"cron": "@daily", "status": "success"}

C = TypeVar("C", bound="DagsterConfig")


@dataclass(frozen=True)
class Reading(Generic[C]):
    """The valid part of a configuration, and its problems.

    Attributes:
        config: The valid part, with defaults for refused values.
        problems: All problems, each with its place.
        lost: Sections with entries that were removed, or that got another name.
        rows: Rows of the remaining entries in the file, by section.
    """

    config: C
    problems: tuple[Problem, ...] = ()
    lost: frozenset[str] = frozenset()
    rows: Mapping[str, list[int]] = field(default_factory=dict)

    def in_the_file(self, problem: Problem) -> Problem:
        """Convert the place of a problem in ``config`` to its place in the file, which has more entries."""

        def placed(found: re.Match[str]) -> str:
            rows, row = self.rows.get(found["section"], []), int(found["row"])
            return f"{found['section']}[{rows[row]}]" if row < len(rows) else found[0]

        return replace(problem, where=_ENTRY.sub(placed, problem.where), what=_ENTRY.sub(placed, problem.what))


def read_settings(model: type[C], values: dict[str, object]) -> Reading[C]:
    """Read the valid part of the configuration, and all its problems.

    Args:
        model: Model of the configuration.
        values: The configuration in the artifacts.
    """
    draft = _Draft(values, _sections(model))
    config = _read(model, draft)
    while config is None:
        config = _read(model, draft)
    reading = Reading(config, tuple(draft.problems), frozenset(draft.lost), draft.rows)
    contradicting = [reading.in_the_file(problem) for problem in contradictions(config)]
    return replace(reading, problems=(*reading.problems, *contradicting))


def _read(model: type[C], draft: _Draft) -> C | None:
    """Read a draft; None when values had to be removed from it."""
    try:
        return model.model_validate(draft.values)
    except ValidationError as error:
        draft.remove_refused(error.errors(include_url=False))
    return None


@cache
def _sections(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """Return the models of a configuration and of its sections, by path, such as ``steps.resources``."""
    return dict(_sections_below(model, ""))


def _sections_below(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, key in model.model_fields.items():
        inner = [*_models_in(key.annotation)]
        for section in inner:
            # pydantic adds the type of an entry to its place if entries have several types.
            kind = get_args(section.model_fields["type"].annotation) if len(inner) > 1 else ()
            yield from _sections_below(section, ".".join([*([path] if path else []), name, *kind]))


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


class _Draft:
    """Values of the configuration, from which each round of validation removes the refused ones.

    Attributes:
        values: The remaining values.
        rows: Rows of the remaining list entries in the file, by section.
        problems: The problems that were found.
        lost: Sections with entries that were removed, or that got another name.
    """

    def __init__(self, values: Mapping[str, object], sections: Mapping[str, type[BaseModel]]) -> None:
        found = deepcopy(dict(values))
        for section in ("automation", "steps"):
            if isinstance(found.get(section), dict):  # a rule without a list is a list of one
                found[section] = [found[section]]
        self.values: dict[str, Any] = found
        self.rows = {name: list(range(len(entries))) for name, entries in found.items() if isinstance(entries, list)}
        self.problems: list[Problem] = []
        self.lost: set[str] = set()
        self._as_found: dict[str, Any] = deepcopy(found)
        self._sections = sections
        self._unusable: set[tuple[str, int]] = set()

    def remove_refused(self, errors: Sequence[ErrorDetails]) -> None:
        """Record the problems, and remove or replace the refused values."""
        for details in errors:
            location = _location(details)
            section, *inside = location
            if not inside or not isinstance(self._as_found[str(section)], list):
                if details["type"] != _UNKNOWN and section in _NAMED:  # it must be a list
                    self.lost.add(str(section))
                self.problems.append(self._problem(details, location))
                self._remove(details, location)
            else:
                in_the_file = (section, self.rows[str(section)][int(inside[0])], *inside[1:])
                self.problems.append(self._problem(details, in_the_file))
                self._repair_entry(details, location)
        for section, row in sorted(self._unusable, reverse=True):
            del self.values[section][row], self.rows[section][row]
            self.lost.add(section)
        self._unusable.clear()

    def _remove(self, details: ErrorDetails, location: Sequence[int | str]) -> None:
        """Remove an unknown key, or the whole section of a refused value. It may have been removed before."""
        *path, last = location if details["type"] == _UNKNOWN else location[:1]
        place: Any = self.values
        for part in path:
            place = place[part] if isinstance(part, int) else place.get(part, {})
        place.pop(last, None)

    def _repair_entry(self, details: ErrorDetails, location: Sequence[int | str]) -> None:
        """Remove or replace the refused value of a list's entry, or mark the entry for removal."""
        section, row, *keys = location
        entry, key = self.values[str(section)][row], keys[0] if keys else None
        if details["type"] == _UNKNOWN:
            self._remove(details, location)
        elif key == "name":
            entry["name"] = f"unnamed_{len(self.problems)}"
            self.lost.add(str(section))
        elif key in _STAND_INS:
            entry[key] = _STAND_INS[str(key)]
        elif key in _REMOVABLE:
            entry.pop(key, None)  # removed before when several values in it are refused
        else:
            self._unusable.add((str(section), int(row)))

    def _problem(self, details: ErrorDetails, location: Sequence[int | str]) -> Problem:
        where = config_path(*location)
        if details["type"] == _UNKNOWN:
            tagged = details["loc"]
            section = ".".join(part for part in tagged[:-1] if isinstance(part, str))
            known = sorted(self._sections[section].model_fields)
            fix = f"{did_you_mean(closest(str(location[-1]), known))}Known keys: {', '.join(known)}. {CORRECT_IT}"
            return Problem(where, f"unknown key{self._name_of(location)}", fix)
        what, fix = _fault_and_fix(details)
        if details["type"].startswith(_UNION):
            where = f"{where}.type"
        name = self._name_of(location)
        return Problem(where, f"{what.removesuffix('.')}{name}" if name else what, f"{fix}{CORRECT_IT}")

    def _name_of(self, location: Sequence[int | str]) -> str:
        """Return the name of the entry at a place, because its row alone is hard to find in the file."""
        section, *inside = location
        if section not in _NAMED or not inside:
            return ""
        entry = self._as_found[str(section)][inside[0]]
        name = entry.get("name") if isinstance(entry, dict) and inside[1:2] != ["name"] else None
        return f" ({_NAMED[str(section)]} {name!r})" if isinstance(name, str) else ""


def _location(details: ErrorDetails) -> tuple[int | str, ...]:
    """Return the place of a refused value, without the parts that pydantic adds to the keys of the file."""
    location = details["loc"]
    if location[0] == "sensors":  # the type of the sensor is added after its row
        location = location[:2] + location[3:]
    # "[key]" is added after an empty key of a mapping. A key of the file may have this name.
    is_marked = len(location) > _KEY_IN_A_SECTION and location[-1] == "[key]" and details["type"] != _UNKNOWN
    return location[:-2] if is_marked else location


def _fault_and_fix(details: ErrorDetails) -> tuple[str, str]:
    """Describe the fault of a refused value, and the fix, which can be empty."""
    kind, context = details["type"], details.get("ctx") or {}
    if kind.startswith(_UNION):
        missing = kind == f"{_UNION}_not_found"
        return "is missing" if missing else "must be 'run_status' or 'asset'", "Choose what the sensor watches. "
    if kind == "string_pattern_mismatch" and context["pattern"] in _FORMS:
        what, fix = _FORMS[context["pattern"]]
        return what, f"{fix} "
    what = validation_message(details)
    if is_of_wrong_type(details):
        return f"{what}, not {type_of(details['input'])}", ""
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        return what, did_you_mean(closest(str(details["input"]), choices))
    return what, ""

"""What pydantic refuses, and what may have been meant, in this package's words."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

_WANTED: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "datetime_type": "a date and time",
    "datetime_from_date_parsing": "a date and time",
    "datetime_parsing": "a date and time",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("ge", "has to be {} or more"),
    "less_than_equal": ("le", "has to be {} or less"),
    "greater_than": ("gt", "has to be more than {}"),
    "less_than": ("lt", "has to be less than {}"),
    "literal_error": ("expected", "has to be {}"),
    "enum": ("expected", "has to be {}"),
    "union_tag_invalid": ("expected_tags", "its type has to be one of {}"),
    "union_tag_not_found": ("discriminator", "needs a {}"),
    "string_too_long": ("max_length", "is longer than {} characters"),
    "string_pattern_mismatch": ("pattern", "has to be of the form {}"),
}
_TOO_SHORT = ("string_too_short", "too_short")
_SAID = {"missing": "is missing", "extra_forbidden": "is unknown here"}
_OPENING = re.compile(r"^(Input|Value|String|List|Dictionary|Data|Object) should ")


def refusal(details: ErrorDetails) -> str:
    """Say what is wrong with a value, without the value: such as ``has to be a whole number``."""
    kind = details["type"]
    if kind in _SAID:
        return _SAID[kind]
    if kind in _WANTED:
        return f"has to be {_WANTED[kind]}"
    if kind in _TOO_SHORT and details["ctx"]["min_length"] == 1:
        return "must not be empty"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = details["ctx"][name]
        return words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    # Of the many other kinds, those that floe's own models can refuse say it well enough.
    return _OPENING.sub("has to ", details["msg"].removeprefix("Value error, "))


def is_empty(details: ErrorDetails) -> bool:
    """Tell whether the refused value is an empty one, of which there is nothing to show."""
    return details["type"] in _TOO_SHORT


def is_of_wrong_type(details: ErrorDetails) -> bool:
    """Tell whether the refused value is of another type than wanted, so that naming its type helps."""
    return details["type"] in _WANTED


def type_of(value: object) -> str:
    """Name the type of a value in YAML, as people say it."""
    if isinstance(value, float):
        return "a number with a fraction" if not value.is_integer() else "a number with a decimal point"
    names = {
        dict: "a mapping",
        list: "a list",
        str: "a text",
        int: "a number",
        bool: "true or false",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def json_type_of(value: object) -> str:
    """Name the type of a value in a JSON document, in JSON's words."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        int: "a number",
        float: "a number",
        bool: "a boolean",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def closest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that may have been meant; None when nothing is close."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), None)


def did_you_mean(meant: str | None) -> str:
    """Ask whether something else was meant, ready to stand before a fix; empty when there is nothing to ask."""
    return f"Did you mean {meant!r}? " if meant is not None else ""

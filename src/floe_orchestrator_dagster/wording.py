"""Phrases for messages: pydantic's validation errors, types of values, numbers, suggestions for misspelled names."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

_EXPECTED: Mapping[str, str] = {
    "string_type": "a string",
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
    "greater_than_equal": ("ge", "must be {} or more"),
    "less_than_equal": ("le", "must be {} or less"),
    "greater_than": ("gt", "must be more than {}"),
    "less_than": ("lt", "must be less than {}"),
    "literal_error": ("expected", "must be {}"),
    "enum": ("expected", "must be {}"),
    "union_tag_invalid": ("expected_tags", "its type must be one of {}"),
    "union_tag_not_found": ("discriminator", "needs a {}"),
    "string_too_long": ("max_length", "is longer than {} characters"),
    "string_pattern_mismatch": ("pattern", "must be of the form {}"),
}
_TOO_SHORT = ("string_too_short", "too_short")
_PHRASES = {"missing": "is missing", "extra_forbidden": "is unknown here"}
_OPENING = re.compile(r"^(Input|Value|String|List|Dictionary|Data|Object) should ")


def validation_message(details: ErrorDetails) -> str:
    """Describe a validation error without the value, such as ``must be a whole number``."""
    kind = details["type"]
    if kind in _PHRASES:
        return _PHRASES[kind]
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}"
    if kind in _TOO_SHORT and details["ctx"]["min_length"] == 1:
        return "must not be empty"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = details["ctx"][name]
        return words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    # pydantic has many other kinds. Those that floe's models produce read well as they are.
    return _OPENING.sub("must ", details["msg"].removeprefix("Value error, "))


def is_empty(details: ErrorDetails) -> bool:
    """Return whether the refused value is empty, so that a message need not repeat it."""
    return details["type"] in _TOO_SHORT


def is_of_wrong_type(details: ErrorDetails) -> bool:
    """Return whether the refused value has the wrong type, so that a message names its type."""
    return details["type"] in _EXPECTED


def type_of(value: object) -> str:
    """Name the type of a value that was read from YAML, in everyday words."""
    if isinstance(value, float):
        return "a number with a fraction" if not value.is_integer() else "a number with a decimal point"
    names = {
        dict: "a mapping",
        list: "a list",
        str: "a string",
        int: "a number",
        bool: "true or false",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def json_type_of(value: object) -> str:
    """Name the type of a value that was read from JSON, in JSON's terms."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        int: "a number",
        float: "a number",
        bool: "a boolean",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural, such as ``1 table`` or ``2 tables``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is most similar to ``name``; None when none is similar."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), None)


def did_you_mean(suggestion: str | None) -> str:
    """Return the question ``Did you mean …?``, to be put in front of a fix; empty without a suggestion."""
    return f"Did you mean {suggestion!r}? " if suggestion is not None else ""

"""Odd content for files: a document with one value replaced by another, or a string cut and changed."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    Place = tuple[int | str, ...]

ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    5,
    1.5,
    10**18,
    "",
    "a",
    "~nouser/x",
    "\0",
    "{{ 1 / 0 }}",
    "{{ env_var('NOT_SET') }}",
    "x" * 5_000,
    [],
    [1],
    ["a", None],
    [[]],
    {},
    {"a": 1},
    {"dagster": None},
    {"dagster": {"asset_key": 1, "owners": {}, "group": []}},
    {"": {}},
]
ODD_YAML = [
    "2026-02-30",
    "!!int foo",
    "!!timestamp x",
    "!!python/object:os.system x",
    "9" * 10_000,
    "[" * 500,
    "&a [*a]",
    "*nothing",
    "{on: 1, 2: 3}",
    "0o777",
    ".inf",
    "|\n  text",
    "? [a]",
    "\0",
    '"\\ud800"',
]


def places(content: object, above: Place = ()) -> Iterator[Place]:
    """List where values are in a document, itself included."""
    yield above
    members = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in members:
        yield from places(value, (*above, key))


def put(content: object, place: Place, value: object) -> Any:  # noqa: ANN401  # JSON
    """Copy a document, with another value at a place."""
    if not place:
        return value
    copy: Any = deepcopy(content)
    found = copy
    for part in place[:-1]:
        found = found[part]
    found[place[-1]] = value
    return copy


def without(content: object, place: Place) -> Any:  # noqa: ANN401  # JSON
    """Copy a document without the value at a place."""
    copy: Any = deepcopy(content)
    found = copy
    for part in place[:-1]:
        found = found[part]
    del found[place[-1]]
    return copy


@st.composite
def documents(draw: st.DrawFn, content: object) -> Any:  # noqa: ANN401  # JSON
    """Draw a document with one or two values replaced, taken from elsewhere in it, or removed."""
    for _ in range(draw(st.integers(1, 2))):
        known = [*places(content)]
        place = draw(st.sampled_from(known))
        kind = draw(st.sampled_from(["odd", "odd", "elsewhere", "removed", "deep"]))
        if kind == "removed" and place:
            content = without(content, place)
        elif kind == "deep":
            content = put(content, place, json.loads("[" * 200 + "]" * 200))
        elif kind == "elsewhere":
            other: Any = content
            for part in draw(st.sampled_from(known)):
                other = other[part]
            content = put(content, place, deepcopy(other))
        else:
            content = put(content, place, draw(st.sampled_from(ODD_VALUES)))
    return content


@st.composite
def texts(draw: st.DrawFn, text: str, odd: list[str]) -> str:
    """Draw a string that is cut off, has a part twice, or has an odd part in it."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    part = draw(st.sampled_from(["", text[start:end] * 2, "\n", "  ", ": ", "- ", *odd]))
    return text[:start] + part + draw(st.sampled_from([text[end:], ""]))


def yaml_texts(content: object) -> st.SearchStrategy[str]:
    """Draw a YAML file: of an odd document, or with an odd text in the place of a value."""
    plain = json.dumps(content, indent=1)
    values = st.tuples(st.sampled_from([place for place in places(content) if place]), st.sampled_from(ODD_YAML))
    replaced = values.map(lambda found: json.dumps(put(content, found[0], "@odd@")).replace('"@odd@"', found[1]))
    return st.one_of(documents(content).map(json.dumps), replaced, texts(plain, ODD_YAML))

"""Reading of YAML files, with the place in the file for each error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from yaml.constructor import ConstructorError

from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from yaml.nodes import Node

    from floe_orchestrator_dagster.product.files import FileError

_DEEPEST = 100
_MOST_VALUES = 1_000_000
_LONGEST_SHOWN = 60


def read_yaml(path: Path, error: FileError) -> object:
    """Parse a YAML file in UTF-8.

    Raises:
        FloeDagsterError: Of the class ``error``: the file is unreadable or not YAML, a value is not valid for its type
            (February 30th), values are nested more than 100 levels deep, or aliases expand to more than a million
            values.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as cause:
        fix = "Let the user that runs Dagster read it, as UTF-8."
        raise error(str(path), [Problem("", f"cannot be read ({cause})", fix)]) from None
    except yaml.YAMLError as cause:
        raise error(str(path), [Problem("", f"is not YAML: {cause}", "Correct the YAML.")]) from None
    except RecursionError:
        raise error(str(path), [Problem("", "is nested too deeply", "Write it with fewer levels.")]) from None


def key_problems(content: object, where: str = "") -> list[Problem]:
    """List the keys that are not strings. YAML reads ``on``, ``off``, ``yes`` and ``no`` as booleans."""
    if isinstance(content, dict):
        not_strings = [
            Problem(_place(where, key), f"the key {key!r} is not a string", "Put the key into quotes.")
            for key in content
            if not isinstance(key, str)
        ]
        return [
            *not_strings,
            *(found for key, value in content.items() for found in key_problems(value, _place(where, key))),
        ]
    if isinstance(content, list):
        return [found for row, value in enumerate(content) for found in key_problems(value, f"{where}[{row}]")]
    return []


def _place(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _parse(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, 1)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader. Any exception from the conversion of a value becomes a YAML error with its place."""

    def construct_object(self, node: Node, deep: bool = False) -> object:  # noqa: FBT001, FBT002  # PyYAML's signature
        try:
            value: object = super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError, TypeError):
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(None, None, f"{_shown(node.value)} is not a valid {kind}", node.start_mark) from None
        if isinstance(value, str) and not _is_text(value):
            raise ConstructorError(
                None, None, f"{_shown(value)} is an incomplete character (a surrogate)", node.start_mark
            )
        return value


def _count(node: Node, sizes: dict[int, int], depth: int) -> int:
    """Count the values of a node; the values of an alias count each time that it is used."""
    if depth > _DEEPEST:
        raise ConstructorError(None, None, f"is nested more than {_DEEPEST} levels deep", node.start_mark)
    known = sizes.get(id(node))
    if known == 0:
        raise ConstructorError(None, None, "an alias refers to itself", node.start_mark)
    if known is not None:
        return known
    sizes[id(node)] = 0  # the count of this node is in progress
    size = 1
    for child in _children(node):
        size += _count(child, sizes, depth + 1)
    if size > _MOST_VALUES:
        raise ConstructorError(None, None, f"aliases expand to more than {_MOST_VALUES} values", node.start_mark)
    sizes[id(node)] = size
    return size


def _children(node: Node) -> list[Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else "the value"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"

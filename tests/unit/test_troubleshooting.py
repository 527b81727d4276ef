"""The page with error messages: each message is one that this package prints."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import floe_orchestrator_dagster
from conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(floe_orchestrator_dagster.__file__).parent
_PAGE = (REPOSITORY / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
_MESSAGES = re.findall(r"^\| `(.+?)`", _PAGE, re.MULTILINE)
_GAP = "…"
# Messages of dbt and its adapters, which this package passes on.
_OF_DBT = ("Connection lost", "Ignored unexpected key")


def _text(module: str, node: ast.expr) -> str:
    """Return a string of the source with its constants; other values are gaps."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(module, part) for part in node.values)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(value, ast.Name) and value.id.isupper():
        return str(getattr(importlib.import_module(module), value.id, _GAP))
    return _GAP


@cache
def _strings() -> frozenset[str]:
    return frozenset(text for path in _PACKAGE.rglob("*.py") for text in _strings_of(path))


def _strings_of(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docstrings:
            yield re.sub(r"%[sd]", _GAP, _text(module, node))


def test_the_page_has_the_messages_that_users_meet() -> None:
    assert len(_MESSAGES) >= 20
    assert len(set(_MESSAGES)) == len(_MESSAGES)


@pytest.mark.parametrize("message", [one for one in _MESSAGES if not one.startswith(_OF_DBT)])
def test_each_message_is_printed_by_this_package(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split(_GAP)), re.DOTALL)

    assert [text for text in _strings() if pattern.search(text)]

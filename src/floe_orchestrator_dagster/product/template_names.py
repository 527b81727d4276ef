"""Names in Jinja templates that always hold tables of ``ref`` and ``source``: assigned ones, and macros' parameters."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import Environment, TemplateError, meta, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

_ASSIGNS = re.compile(r"\{%[-+]?\s*(?:set|for)\b")
_FILTERS_OF_DBT = ("as_bool", "as_native", "as_number", "as_text")
# Jinja's analysis is recursive, and some faults are only found by it.
_ERRORS = (TemplateError, RecursionError)
_CALLS_OF_TABLES = frozenset({"ref", "source"})
# Statements that assign names in other ways, or run code of another file.
_OTHER_STATEMENTS = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.With, nodes.Import, nodes.FromImport)


@lru_cache(maxsize=64)
def _parsed(code: str) -> nodes.Template:
    environment = Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])  # noqa: S701  # never rendered
    environment.globals.clear()  # they are names from outside, too
    environment.filters.update(dict.fromkeys(_FILTERS_OF_DBT, str))
    return environment.parse(code)


def names_from_outside(code: str) -> set[str] | None:
    """Return the names that Jinja may look up outside of a template, also if another part of it assigns them.

    None if it is not a valid template, or has statements that only dbt knows.
    """
    try:
        return meta.find_undeclared_variables(_parsed(code))
    except _ERRORS:
        return None


@lru_cache(maxsize=10_000)
def names_of_tables(code: str) -> frozenset[str]:
    """Return the names that hold a table of ``ref`` or ``source`` wherever a template uses them.

    ``set`` assigns them, or a loop over such tables: ``{% for table in [ref('a'), ref('b')] %}``. Such a list may have
    a name itself, if the template only uses that name in loops, and can therefore not change the list.
    """
    if not _ASSIGNS.search(code):
        return frozenset()
    try:
        return _assigned_tables(code)
    except _ERRORS:
        return frozenset()


def _assigned_tables(code: str) -> frozenset[str]:
    tree = _parsed(code)
    if any(tree.find_all(_OTHER_STATEMENTS)):
        return frozenset()
    stored = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx != "load")
    if not _CALLS_OF_TABLES.isdisjoint(stored):
        return frozenset()
    loaded = Counter(name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")
    assignments, loops = list(tree.find_all(nodes.Assign)), list(tree.find_all(nodes.For))
    looped = Counter(_name(loop.iter) for loop in loops)
    listed = Counter(_name(one.target) for one in assignments if _is_list(one.node))
    lists = {name for name, count in listed.items() if count == stored[name] and loaded[name] == looped[name]}
    tables = Counter(_name(one.target) for one in assignments if _is_table(one.node))
    plain = (loop for loop in loops if not loop.recursive)
    tables.update(_name(loop.target) for loop in plain if _is_list(loop.iter) or _name(loop.iter) in lists)
    outside = meta.find_undeclared_variables(tree)
    return frozenset(name for name, count in tables.items() if count == stored[name] and name not in outside)


def parameters_with_tables(macro: str, code: str, texts: Iterable[str]) -> frozenset[str]:
    """Return the parameters of a macro to which each call passes a table of ``ref`` or ``source``.

    Args:
        macro: The macro's name.
        code: The macro's code.
        texts: All texts with templates that may call the macro, with its own code. If one of them uses the macro's name
            in another way, or cannot be parsed, or none calls it, no parameter is known.
    """
    parameters = _unchanged_parameters(macro, code)
    passed = [_tables_passed(macro, parameters, text) for text in texts if macro in text] if parameters else []
    calls = [tables for tables in passed if tables is not None]
    return frozenset(parameters).intersection(*calls) if calls else frozenset()


@lru_cache(maxsize=1_000)
def _unchanged_parameters(macro: str, code: str) -> tuple[str, ...]:
    """Return the parameters of a macro, in their order; none if it assigns names in other ways, or one of them."""
    try:
        tree = _parsed(code)
        own = list(tree.find_all(nodes.Macro))
        if [one.name for one in own] != [macro] or any(map(_binds_otherwise, tree.find_all(nodes.Node))):
            return ()
        stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    except _ERRORS:
        return ()
    parameters = tuple(parameter.name for parameter in own[0].args)
    return () if stored.intersection(parameters) else parameters


def _binds_otherwise(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.With, nodes.Import, nodes.FromImport)) or (
        isinstance(node, nodes.CallBlock) and bool(node.args)
    )


@lru_cache(maxsize=20_000)
def _tables_passed(macro: str, parameters: tuple[str, ...], text: str) -> frozenset[str] | None:
    """Return the parameters to which each call in a template passes a table; None if it does not use the macro.

    Without a parameter if the text uses the macro's name in another way.
    """
    try:
        tree = _parsed(text)
        calls = [call for call in tree.find_all(nodes.Call) if _uses(macro, call.node)]
        uses = sum(_uses(macro, node) for node in tree.find_all(nodes.Node))
        bound = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    except _ERRORS:
        return frozenset()
    if not uses:
        return None
    if uses != len(calls) or not _CALLS_OF_TABLES.isdisjoint(bound):
        return frozenset()
    tables, known = names_of_tables(text), set(parameters)
    for call in calls:
        given = dict(zip(parameters, call.args, strict=False)) | {named.key: named.value for named in call.kwargs}
        known &= {name for name, value in given.items() if _is_table(value) or _name(value) in tables}
        if call.dyn_args or call.dyn_kwargs:
            return frozenset()
    return frozenset(known)


def _uses(name: str, node: nodes.Node) -> bool:
    """Return whether a node of the tree is a name, or a literal that is one or may contain a template with it."""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str) and (node.value == name or ("{" in node.value and name in node.value))
    return _name(node) == name or (isinstance(node, nodes.Getattr) and node.attr == name)


def _name(node: nodes.Node) -> str:
    """Return the name of a node, or an empty string for other nodes."""
    return node.name if isinstance(node, nodes.Name) else ""


def _is_table(node: nodes.Node) -> bool:
    if not isinstance(node, nodes.Call) or _name(node.node) not in _CALLS_OF_TABLES or not node.args:
        return False
    given = [*node.args, *(argument.value for argument in node.kwargs)]
    return not node.dyn_args and not node.dyn_kwargs and all(isinstance(value, nodes.Const) for value in given)


def _is_list(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.List, nodes.Tuple)) and bool(node.items) and all(map(_is_table, node.items))

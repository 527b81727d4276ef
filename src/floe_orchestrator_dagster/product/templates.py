"""Jinja templates in dbt profiles that read environment variables.

dbt's ``env_var``: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2 import Environment, nodes
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

# Exceptions of Jinja and of the Python expressions in a template.
_JINJA_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
# Parts of a template with bounded time and memory: no loops, macros, powers, products or formats.
_HARMLESS_NODES = frozenset({
    "Add", "And", "CondExpr", "Compare", "Concat", "Const", "Filter", "Getitem", "If", "List", "Name", "Not", "Operand",
    "Or", "Output", "Slice", "Sub", "Template", "TemplateData", "Test", "Tuple"
})  # fmt: skip
_HARMLESS_FILTERS = frozenset({
    "as_bool", "as_native", "as_number", "as_text", "d", "default", "first", "int", "last", "length", "lower",
    "replace", "string", "title", "trim", "upper"
})  # fmt: skip
_HARMLESS_METHODS = frozenset({
    "endswith", "lower", "lstrip", "replace", "rstrip", "split", "startswith", "strip", "title", "upper"
})  # fmt: skip
_NUMBER = "1"
# Settings that dbt v2 reads as numbers only. It also reads `01` as a number for ports and threads.
_NUMERIC_SETTING = re.compile(r"(^|_)(retries|timeout|seconds|billed|idle)(_|$)")
_LONGEST_TEMPLATE = 10_000
_LONGEST_TEXT = 1_000_000


@dataclass(frozen=True)
class Variable:
    """An environment variable that a profile reads without a default.

    Attributes:
        name: The variable's name.
        placeholder: A value that lets dbt-core parse (not connect) while the variable is not set.
        setting: The setting of the profile that reads it.
    """

    name: str
    placeholder: str
    setting: str = field(default="", compare=False)

    @property
    def v2_placeholder(self) -> str:
        """The placeholder for dbt v2, which reads ``1`` as a number and rejects it as a schema or user."""
        is_text = self.placeholder == _NUMBER and not _NUMERIC_SETTING.search(self.setting)
        return f"0{self.placeholder}" if is_text else self.placeholder


def rendered(template: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Render a template as dbt does; None when only dbt can render it.

    The result is None when a variable is not set, when the template is not valid, and when it contains more than
    environment variables and expressions of limited cost.
    """
    if "{{" not in template:
        return template
    from jinja2 import StrictUndefined, TemplateError

    def env_var(name: str, default: object = None) -> object:
        value = environment.get(name, default)
        if value is None:
            raise TemplateError(name)
        return value

    jinja = _environment()(undefined=StrictUndefined)
    jinja.filters |= dict.fromkeys(("as_bool", "as_number", "as_native", "as_text"), lambda value: value)
    jinja.filters["replace"] = _replaced
    try:
        tree = _parsed(jinja, template)
        return jinja.from_string(tree).render(env_var=env_var) if tree and _is_harmless(tree) else None
    except (TemplateError, *_JINJA_ERRORS):
        return None  # dbt renders it, or reports the error with its place


@cache
def _environment() -> type[SandboxedEnvironment]:
    """Return Jinja's sandbox, with a limit on the length of strings."""
    from jinja2.sandbox import SandboxedEnvironment

    class Environment(SandboxedEnvironment):
        def call(self, context: Context, called: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # Jinja's parameters
            text = getattr(called, "__self__", None)
            if isinstance(text, str) and called.__name__ == "replace":
                return _replaced(text, *args, **kwargs)
            return super().call(context, called, *args, **kwargs)

    return Environment


def _parsed(jinja: Environment, template: str) -> nodes.Template | None:
    """Parse a template; None when it is not valid or too long for a value of a profile."""
    from jinja2 import TemplateSyntaxError

    if len(template) > _LONGEST_TEMPLATE:
        return None
    try:
        return jinja.parse(template)
    except (TemplateSyntaxError, *_JINJA_ERRORS):
        return None


def _is_harmless(tree: nodes.Template) -> bool:
    from jinja2 import nodes

    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Call):
            harmless = _is_harmless_call(node.node)
        elif isinstance(node, nodes.Filter):
            harmless = node.name in _HARMLESS_FILTERS
        elif isinstance(node, nodes.Getattr):
            harmless = node.attr in _HARMLESS_METHODS
        else:
            harmless = type(node).__name__ in _HARMLESS_NODES
        if not harmless:
            return False
    return True


def _is_harmless_call(called: nodes.Node) -> bool:
    from jinja2 import nodes

    if isinstance(called, nodes.Name):
        return called.name == "env_var"
    return isinstance(called, nodes.Getattr) and called.attr in _HARMLESS_METHODS


def _replaced(value: object, old: str, new: str) -> str:
    text = str(value)
    if len(text) * max(1, len(str(new))) > _LONGEST_TEXT:
        raise ValueError("the result of `replace` is too long")
    return text.replace(str(old), str(new))


def required_variables(content: object) -> tuple[Variable, ...]:
    """List the distinct environment variables that an output reads without a default."""
    variables = (variable for setting, text in _templates(content) for variable in _env_vars(text, setting))
    return tuple({variable.name: variable for variable in variables}.values())


def read_from_environment(template: str, environment: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str]]:
    """Yield the variables that a template reads: each name with its value, or with its default when it is not set."""
    for _, (name, *default) in _env_var_calls(template):
        yield name, environment.get(name, default[0] if default else "")


def _env_vars(template: str, setting: str) -> Iterator[Variable]:
    """Find ``env_var('NAME')`` calls without a default. The placeholder is ``true`` with ``as_bool``, else ``1``."""
    for is_bool, arguments in _env_var_calls(template):
        if len(arguments) == 1:
            yield Variable(arguments[0], "true" if is_bool else _NUMBER, setting)


def _templates(content: object, setting: str = "") -> Iterator[tuple[str, str]]:
    """Yield the templates in an output, each with its setting."""
    if isinstance(content, str) and "{{" in content:
        yield setting, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _templates(value, str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _templates(value, setting)


def _env_var_calls(template: str) -> Iterator[tuple[bool, list[str]]]:
    """Find calls of ``env_var`` with literal arguments. Yield whether ``as_bool`` is used, and the arguments."""
    from jinja2 import Environment, nodes

    tree = _parsed(Environment(autoescape=True), template)
    if tree is None:
        return  # dbt reports the error with its place when it renders the profile
    is_bool = any(node.name == "as_bool" for node in tree.find_all(nodes.Filter))
    for call in tree.find_all(nodes.Call):
        arguments = [str(argument.value) for argument in call.args if isinstance(argument, nodes.Const)]
        is_env_var = isinstance(call.node, nodes.Name) and call.node.name == "env_var"
        if is_env_var and arguments and len(arguments) == len(call.args) and not call.kwargs:
            yield is_bool, arguments

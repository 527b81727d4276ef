"""Texts of a profile that dbt renders with what the environment says.

dbt's ``env_var``: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Variable:
    """An environment variable that a profile reads without a default.

    Attributes:
        name: The variable's name.
        placeholder: A value that lets dbt parse (not connect) while the variable is not set.
    """

    name: str
    placeholder: str


def rendered(template: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Render a text as dbt does; None while a variable in it is not set, or when it needs more than the environment."""
    if "{{" not in template:
        return template
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    def env_var(name: str, default: object = None) -> object:
        value = environment.get(name, default)
        if value is None:
            raise TemplateError(name)
        return value

    jinja = SandboxedEnvironment(undefined=StrictUndefined)
    jinja.filters |= dict.fromkeys(("as_bool", "as_number", "as_native", "as_text"), lambda value: value)
    try:
        return jinja.from_string(template).render(env_var=env_var)
    except (TemplateError, TypeError, ValueError):
        return None  # dbt renders it, or reports it with its place


def required_variables(content: object) -> tuple[Variable, ...]:
    """List the environment variables that an output reads without a default, each once."""
    variables = (variable for text in _templates(content) for variable in _env_vars(text))
    return tuple({variable.name: variable for variable in variables}.values())


def read_from_environment(template: str) -> Iterator[tuple[str, str]]:
    """Give what a template reads from the environment: names of variables with their values, else their defaults."""
    for _, (name, *default) in _env_var_calls(template):
        yield name, os.environ.get(name, default[0] if default else "")


def _env_vars(template: str) -> Iterator[Variable]:
    """Find ``env_var('NAME')`` calls without a default; `as_bool` decides the placeholder, all else takes a number."""
    for is_bool, arguments in _env_var_calls(template):
        if len(arguments) == 1:
            yield Variable(arguments[0], "true" if is_bool else "1")


def _templates(content: object) -> Iterator[str]:
    if isinstance(content, str) and "{{" in content:
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _templates(value)
    elif isinstance(content, list):
        for value in content:
            yield from _templates(value)


def _env_var_calls(template: str) -> Iterator[tuple[bool, list[str]]]:
    """Find calls of ``env_var`` with literal arguments, and whether the template makes a boolean of anything."""
    from jinja2 import Environment, TemplateSyntaxError, nodes

    try:
        tree = Environment(autoescape=True).parse(template)
    except TemplateSyntaxError:
        return  # dbt renders the profile and reports it with its place
    is_bool = any(node.name == "as_bool" for node in tree.find_all(nodes.Filter))
    for call in tree.find_all(nodes.Call):
        arguments = [str(argument.value) for argument in call.args if isinstance(argument, nodes.Const)]
        is_env_var = isinstance(call.node, nodes.Name) and call.node.name == "env_var"
        if is_env_var and arguments and len(arguments) == len(call.args) and not call.kwargs:
            yield is_bool, arguments

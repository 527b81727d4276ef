"""Importing the package is cheap, and it shows exactly what it promises."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

import floe_orchestrator_dagster
from processes import run_python

_HEAVY = (
    "dagster",
    "dagster_dbt",
    "dbt",
    "httpx",
    "openlineage",
    "opentelemetry",
    "jinja2",
    "croniter",
    "pytz",
    "yaml",
    "orjson",
    "rich",
)
_PLUGIN_ALONE = f"""
import sys
import floe_core.plugins.orchestrator
before = set(sys.modules)
import floe_orchestrator_dagster
plugin = floe_orchestrator_dagster.DagsterOrchestratorPlugin()
plugin.name, plugin.version, plugin.floe_api_version, plugin.description, plugin.tracer_name
import json
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({_HEAVY!r}))))
"""
_PACKAGE_ALONE = """
import sys
import floe_orchestrator_dagster
import json
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("floe_", "dagster", "dbt", "pydantic")))))
"""


def test_loading_the_plugin_imports_nothing_heavy_that_floe_core_does_not() -> None:
    assert json.loads(run_python("-W", "error", "-c", _PLUGIN_ALONE).stdout) == []


def test_importing_the_package_alone_does_not_even_import_floe_core() -> None:
    assert json.loads(run_python("-W", "error", "-c", _PACKAGE_ALONE).stdout) == ["floe_orchestrator_dagster"]


def test_public_names_are_exactly_those_promised() -> None:
    public: dict[str, object] = {}

    exec("from floe_orchestrator_dagster import *", public)  # noqa: S102  # a star import is what is tested

    assert set(public) - {"__builtins__"} == {"DagsterOrchestratorPlugin", "__version__", "load_product_definitions"}
    assert floe_orchestrator_dagster.__all__ == sorted(floe_orchestrator_dagster.__all__)


def test_version_is_the_distributions() -> None:
    assert floe_orchestrator_dagster.__version__ == importlib.metadata.version("floe-orchestrator-dagster")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as raised:
        floe_orchestrator_dagster.DagsterPlugin  # noqa: B018  # the access is the test

    assert str(raised.value) == "module 'floe_orchestrator_dagster' has no attribute 'DagsterPlugin'"


def test_package_says_that_it_is_typed() -> None:
    assert Path(floe_orchestrator_dagster.__file__).with_name("py.typed").is_file()

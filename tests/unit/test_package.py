"""Imports of the package: cheap, with exactly the documented public names."""

from __future__ import annotations

import ast
import importlib.metadata
import json
from pathlib import Path

import pytest
from packaging.version import Version

import floe_orchestrator_dagster
from floe_orchestrator_dagster.errors import FloeDagsterError
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
_CODE_LOCATION_ALONE = """
import json
import sys
import dagster
import dagster._core.remote_representation.external_data
before = set(sys.modules)
from floe_orchestrator_dagster.definitions import defs
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new & {"agate", "httpcore", "httpx", "openlineage", "rich", "sqlglot"})))
"""
_PUBLIC = {
    "AlertError",
    "ArtifactsError",
    "ConfigError",
    "DagsterConfig",
    "DagsterOrchestratorPlugin",
    "DbtBuildError",
    "DbtNodesError",
    "DbtSetupError",
    "DeployError",
    "EngineError",
    "EntryPointError",
    "FloeDagsterError",
    "FloeDbtTranslator",
    "FloeProductComponent",
    "InstanceError",
    "LineageError",
    "ManifestError",
    "Problem",
    "ProfileError",
    "ProjectError",
    "PullRequestError",
    "ScheduleError",
    "SpecError",
    "StateError",
    "__version__",
    "load_definitions_from_environment",
    "load_product_definitions",
}
_PACKAGE_ALONE = """
import sys
import floe_orchestrator_dagster
import json
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("floe_", "dagster", "dbt", "pydantic")))))
"""


@pytest.mark.skipif(
    Version(importlib.metadata.version("dagster-dbt")) < Version("0.29"), reason="dagster-dbt before 0.29 imports dbt"
)
def test_code_location_imports_no_http_client_and_no_sql_parser() -> None:
    assert json.loads(run_python("-c", _CODE_LOCATION_ALONE).stdout) == []


def test_loading_the_plugin_imports_nothing_heavy_that_floe_core_does_not() -> None:
    assert json.loads(run_python("-W", "error", "-c", _PLUGIN_ALONE).stdout) == []


def test_importing_the_package_alone_does_not_even_import_floe_core() -> None:
    assert json.loads(run_python("-W", "error", "-c", _PACKAGE_ALONE).stdout) == ["floe_orchestrator_dagster"]


def test_public_names_are_exactly_those_promised() -> None:
    public: dict[str, object] = {}

    exec("from floe_orchestrator_dagster import *", public)  # noqa: S102  # a star import is what is tested

    assert set(public) - {"__builtins__"} == _PUBLIC
    assert floe_orchestrator_dagster.__all__ == sorted(floe_orchestrator_dagster.__all__)
    assert set(dir(floe_orchestrator_dagster)) >= _PUBLIC


def test_every_error_is_public() -> None:
    def tree(error: type[Exception]) -> set[type[Exception]]:
        return {error}.union(*map(tree, error.__subclasses__()))

    raised = {error for error in tree(FloeDagsterError) if not error.__name__.startswith("_")}

    assert {getattr(floe_orchestrator_dagster, error.__name__) for error in raised} == raised


def test_public_names_have_types() -> None:
    """For a type checker, a name that is not imported has the type that ``__getattr__`` returns: any object."""
    statements = ast.parse(Path(floe_orchestrator_dagster.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(statements) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("floe_orchestrator_dagster")]

    assert {alias.name for node in ours for alias in node.names} == _PUBLIC - {"__version__"}


def test_version_is_the_distributions() -> None:
    assert floe_orchestrator_dagster.__version__ == importlib.metadata.version("floe-orchestrator-dagster")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as raised:
        floe_orchestrator_dagster.DagsterPlugin  # noqa: B018  # the access is the test

    assert str(raised.value) == "module 'floe_orchestrator_dagster' has no attribute 'DagsterPlugin'"


def test_package_is_marked_as_typed() -> None:
    assert Path(floe_orchestrator_dagster.__file__).with_name("py.typed").is_file()

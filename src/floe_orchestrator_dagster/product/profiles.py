"""The product's dbt profile: selection of the target, environment variables, DuckDB files."""

from __future__ import annotations

import logging
import os
import re
from collections import ChainMap
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import Problem, ProfileError
from floe_orchestrator_dagster.product.engines import DEFAULT_CHOICE, EngineChoice
from floe_orchestrator_dagster.product.project import file_variables
from floe_orchestrator_dagster.product.templates import (
    Variable,
    read_from_environment,
    rendered,
    required_variables,
)
from floe_orchestrator_dagster.redaction import longest_first, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.product.project import ProjectDirectory

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "FLOE_ENV"
_SECRET_PREFIX = "DBT_ENV_SECRET"  # noqa: S105  # the prefix of a variable's name
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_RECOMPILE = "Compile the product again with a compute plugin in manifest.yaml (floe platform compile)."


@dataclass(frozen=True)
class Profile:
    """A dbt profile that can be written to ``profiles.yml``.

    Attributes:
        name: The profile name in ``dbt_project.yml``.
        target: Name of the selected output; None when the profile's ``target`` reads a variable that is not set.
        outputs: Outputs by name, with absolute paths of DuckDB files.
        default_target: The compiled profile's ``target``.
        variables: Environment variables that the selected output requires.
        file_variables: Values of the project's ``.env``, for variables that are not set in this process.
    """

    name: str
    target: str | None
    outputs: Mapping[str, Mapping[str, object]]
    default_target: str
    variables: tuple[Variable, ...]
    file_variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables as dbt sees them."""
        return ChainMap(os.environ, {**self.file_variables})

    @property
    def adapter(self) -> str | None:
        """The dbt adapter of the selected output, such as ``duckdb``."""
        return str(self.outputs[self.target]["type"]) if self.target else None

    @property
    def duckdb_files(self) -> tuple[Path, ...]:
        """The distinct DuckDB files that the selected output opens for writing, including attached ones.

        Relative paths are relative to the project. Paths that only dbt can render are left out.
        """
        if self.adapter != "duckdb" or self.target is None:
            return ()
        output = self.outputs[self.target]
        attached = output.get("attach")
        databases = [output, *(attached if isinstance(attached, list) else [])]
        templates = (database.get("path") for database in databases if _is_written_duckdb(database))
        paths = (rendered(template, self.environment) for template in templates if isinstance(template, str))
        files = (_expanded(path) for path in paths if path and _is_file(path))
        return tuple(dict.fromkeys(file for file in files if file is not None))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials in the outputs, longest first; never print them."""
        environment = self.environment
        return secrets_of(
            self.outputs,
            variables=partial(read_from_environment, environment=environment),
            render=partial(rendered, environment=environment),
        )

    @property
    def masked_values(self) -> tuple[str, ...]:
        """Values to mask in what dbt prints, longest first: credentials, and dbt's secret variables."""
        variables = [value for name, value in self.environment.items() if name.startswith(_SECRET_PREFIX)]
        lines = [line for value in variables for line in (value, *value.splitlines())]
        return longest_first([*self.secrets, *lines])

    def on_target(self, target: str) -> Profile:
        """Return the profile with another output selected."""
        return replace(self, target=target, variables=required_variables(self.outputs[target]))

    @property
    def missing_variables(self) -> tuple[Variable, ...]:
        """The required variables that are neither set in this process nor in the project's ``.env``."""
        return tuple(variable for variable in self.variables if variable.name not in self.environment)


def select_profile(
    artifacts: CompiledArtifacts,
    project: ProjectDirectory,
    origin: str,
    choice: EngineChoice = DEFAULT_CHOICE,
    environment: str | None = None,
) -> Profile:
    """Select the project's profile from the contract, and the output that ``environment`` or ``FLOE_ENV`` names.

    Profile names are compared without regard to case, dashes and underscores. If the contract has only one profile, it
    is used whatever its name is, because the compiler names it after the product.

    Raises:
        ProfileError: The contract has no valid profile for the project.
    """
    profiles = artifacts.dbt_profiles or {}
    compiled_name = _match_name(list(profiles), project.profile_name, origin)
    where = f"dbt_profiles.{compiled_name}"
    outputs = _read_outputs(profiles[compiled_name], where, origin)
    default_target = str(profiles[compiled_name].get("target") or next(iter(outputs)))
    of_file = file_variables(project.path, choice)
    variables = {**of_file, **os.environ, **({ENVIRONMENT_VARIABLE: environment} if environment else {})}
    target = _resolve_target(outputs, default_target, Place(origin, where), variables)
    required = required_variables(outputs[target]) if target else _any_targets_variables(default_target, outputs)
    return Profile(
        name=project.profile_name or artifacts.metadata.product_name,
        target=target,
        outputs={
            name: resolve_paths(output, project, Place(origin, f"{where}.outputs.{name}"))
            for name, output in outputs.items()
        },
        default_target=default_target,
        variables=required,
        file_variables=of_file,
    )


def is_on_duckdb(artifacts: CompiledArtifacts) -> bool:
    """Return whether any compiled output is a DuckDB database, which only one process at a time can write."""
    profiles = (artifacts.dbt_profiles or {}).values()
    listed = [profile.get("outputs") for profile in profiles if isinstance(profile, dict)]
    outputs = [output for group in listed if isinstance(group, dict) for output in group.values()]
    return any(isinstance(output, dict) and output.get("type") == "duckdb" for output in outputs)


def targets_of_environments(artifacts: CompiledArtifacts) -> tuple[str, ...] | None:
    """Return the names of the outputs, from which ``FLOE_ENV`` selects one. All profiles of the artifacts have these.

    None if the artifacts have no profile, or if the profile selects an output by an environment variable.
    """
    profiles = [profile for profile in (artifacts.dbt_profiles or {}).values() if isinstance(profile, dict)]
    listed = [outputs for profile in profiles if isinstance(outputs := profile.get("outputs"), dict)]
    if not listed or any([*read_from_environment(str(profile.get("target")))] for profile in profiles):
        return None
    return tuple(str(name) for name in listed[0] if all(name in outputs for outputs in listed))


def require_variables(profile: Profile) -> None:
    """Check that all environment variables which the profile requires are set.

    Raises:
        ProfileError: Some variables are not set. The message lists all.
    """
    problems = [
        Problem(variable.name, "the environment variable is not set", "Set it where Dagster's runs get their secrets.")
        for variable in profile.missing_variables
    ]
    if problems:
        raise ProfileError(f"dbt profile {profile.name!r}, target {profile.target!r}", problems)


def create_database_directory(profile: Profile) -> None:
    """Create the directory of the selected output's DuckDB file, unless its path is a template."""
    path = profile.outputs[profile.target].get("path") if profile.target else None
    if profile.adapter == "duckdb" and isinstance(path, str) and _is_file(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _match_name(compiled: list[str], requested: str | None, origin: str) -> str:
    if not compiled:
        raise ProfileError(origin, [Problem("dbt_profiles", "the artifacts have no dbt profile", _RECOMPILE)])
    if len(compiled) == 1:
        return compiled[0]
    matches = [name for name in compiled if requested and _fold(name) == _fold(requested)]
    if len(matches) == 1:
        return matches[0]
    what = f"none of {', '.join(map(repr, compiled))} is the profile {requested!r} of dbt_project.yml"
    raise ProfileError(origin, [Problem("dbt_profiles", what, "Set `profile:` in dbt_project.yml to one of them.")])


def _fold(name: str) -> str:
    return name.replace("-", "_").lower()


def _read_outputs(profile: object, where: str, origin: str) -> dict[str, dict[str, object]]:
    outputs = profile.get("outputs") if isinstance(profile, dict) else None
    if not isinstance(outputs, dict) or not outputs:
        raise ProfileError(origin, [Problem(f"{where}.outputs", "has no output", _RECOMPILE)])
    untyped = [name for name, output in outputs.items() if not (isinstance(output, dict) and output.get("type"))]
    if untyped:
        problems = [Problem(f"{where}.outputs.{name}.type", "is missing", _RECOMPILE) for name in untyped]
        raise ProfileError(origin, problems)
    return outputs


def _resolve_target(
    outputs: Mapping[str, object], default: str, place: Place, variables: Mapping[str, str]
) -> str | None:
    environment = variables.get(ENVIRONMENT_VARIABLE)
    if environment in outputs:
        return environment
    if environment:
        logger.warning(
            "%s=%s has no output in the dbt profile: target %s is used", ENVIRONMENT_VARIABLE, environment, default
        )
    named = rendered(default, variables)
    if named is None or named in outputs:
        return named
    what = f"{named!r} names no output (outputs: {', '.join(map(repr, outputs))})"
    raise ProfileError(place.file, [Problem(f"{place.where}.target", what, _RECOMPILE)])


@dataclass(frozen=True)
class Place:
    """A file, and a place in it."""

    file: str
    where: str


def resolve_paths(output: Mapping[str, object], project: ProjectDirectory, place: Place) -> dict[str, object]:
    """Return an output with an absolute path of its DuckDB file; relative paths start at the state directory.

    Raises:
        ProfileError: The path is not valid: its home directory is unknown, or it contains a NUL character.
    """
    path = output.get("path")
    if output["type"] != "duckdb" or not isinstance(path, str) or not _is_file(path):
        return dict(output)
    file = _expanded(path)
    if file is None:
        what = f"{path!r} is not the path of a file on this machine"
        fix = "Correct `path` of the compute in manifest.yaml and compile again."
        raise ProfileError(place.file, [Problem(f"{place.where}.path", what, fix)])
    return {**output, "path": str(project.state_path / file)}


def _expanded(path: str) -> Path | None:
    """Expand ``~``; None when the home directory is unknown or the string cannot be a path."""
    try:
        return None if "\0" in path else Path(path).expanduser()
    except RuntimeError:
        return None


def _is_file(path: str) -> bool:
    """Return whether a DuckDB path names a local file: not memory, MotherDuck, DuckLake, a URL or a template."""
    return bool(path) and not (path.startswith(":memory:") or _SCHEME.match(path) or "{{" in path)


def _is_written_duckdb(database: object) -> bool:
    if not isinstance(database, dict) or database.get("read_only"):
        return False
    return database.get("type") in (None, "duckdb")


def _any_targets_variables(template: str, outputs: Mapping[str, object]) -> tuple[Variable, ...]:
    """Return the variables of the first output. dbt parses with it if the variable that selects one is not set."""
    first = next(iter(outputs))
    choosing = (Variable(variable.name, first) for variable in required_variables(template))
    return (*choosing, *required_variables(outputs[first]))

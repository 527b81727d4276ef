"""Reading and validation of CompiledArtifacts, the compiled contract of a product, and of the configuration in it.

floe-core's model checks types. This module also rejects contracts of newer versions, duplicate names, missing and
circular dependencies, and products that failed a strict check of floe's policies.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, cast

from floe_core.schemas.compiled_artifacts import CompiledArtifacts
from floe_core.schemas.versions import COMPILED_ARTIFACTS_VERSION
from pydantic import ValidationError

from floe_orchestrator_dagster.config import DagsterConfig, read_config
from floe_orchestrator_dagster.errors import ArtifactsError, Problem
from floe_orchestrator_dagster.product.files import is_deeper_than, parse_json, read_file, user_path
from floe_orchestrator_dagster.wording import closest, did_you_mean, is_empty, json_type_of, validation_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import ResolvedModel
    from pydantic_core import ErrorDetails


_MODELS = "transforms.models"
_RECOMPILE = "Correct floe.yaml and compile the product again (floe platform compile)."
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_SECRET_WORDS = ("secret", "password", "token", "key", "credential", "private")
_LONGEST_VALUE = 80
_DEEPEST = 100
ARTIFACTS_PATH_VARIABLE = "FLOE_ARTIFACTS_PATH"


def read_artifacts_file(path: Path) -> dict[str, Any]:
    """Read the JSON object in ``path`` without validating it.

    Raises:
        ArtifactsError: The file is missing, unreadable, truncated or not a JSON object.
    """
    return parse_artifacts(read_artifacts_bytes(path), path)


def read_artifacts_bytes(path: Path) -> bytes:
    """Read the artifacts' file, for callers that need its bytes, too: a pipe can be read only once.

    Raises:
        ArtifactsError: The file is missing or unreadable.
    """
    try:
        exists = path.exists()
    except OSError as error:
        what, fix = f"cannot be accessed: {error.strerror}", "Correct the path, or let this user read the file."
        raise ArtifactsError(str(path), [Problem("", what, fix)]) from None
    if not exists:
        fix = "Compile the product (floe platform compile), or correct the path (FLOE_ARTIFACTS_PATH or the argument)."
        raise ArtifactsError(str(path), [Problem("", "the file does not exist", fix)])
    if path.is_dir():
        fix = f"Use the file in it, such as {path / 'compiled_artifacts.json'}."
        raise ArtifactsError(str(path), [Problem("", "is a directory, not a file", fix)])
    return read_file(path, ArtifactsError)


def parse_artifacts(source: bytes, path: Path) -> dict[str, Any]:
    """Parse the content of the artifacts' file without validating it.

    Raises:
        ArtifactsError: It is truncated, or not a JSON object.
    """
    fix = "Compile the product again. The path must be that of the JSON output, not of floe.yaml or a ConfigMap."
    return json_object(parse_json(source, path, ArtifactsError, fix), str(path))


def json_object(content: object, origin: str) -> dict[str, Any]:
    """Return ``content`` when it is a JSON object.

    Raises:
        ArtifactsError: It is something else, or nested more than 100 levels deep.
    """
    if isinstance(content, Mapping):
        if is_deeper_than(content, _DEEPEST):
            problem = Problem("", f"is nested more than {_DEEPEST} levels deep", _RECOMPILE)
            raise ArtifactsError(origin, [problem])
        return dict(content)
    what = f"contains {json_type_of(content)}, not a JSON object"
    raise ArtifactsError(origin, [Problem("", what, "Compile the product again (floe platform compile).")])


def validate_artifacts(content: Mapping[str, Any], origin: str) -> CompiledArtifacts:
    """Validate the JSON object with floe-core's model, after a check of its version.

    Args:
        content: The JSON object of a ``compiled_artifacts.json``.
        origin: Its name in messages: a path, or the name of an argument.

    Raises:
        ArtifactsError: The contract is newer than the installed floe-core, a field is not valid, model names are
            duplicate, a model depends on itself, dependencies form a cycle, or a strict check of policies failed.
    """
    _check_version(content, origin)
    try:
        artifacts = CompiledArtifacts.model_validate(content)
    except ValidationError as error:
        problems = [_field_problem(details, content) for details in error.errors(include_url=False)]
        raise ArtifactsError(origin, problems) from None
    models = artifacts.transforms.models if artifacts.transforms else []
    problems = [*_enforcement_problems(artifacts), *dependency_problems(models)]
    if problems:
        raise ArtifactsError(origin, problems)
    return artifacts


def check_product_name(artifacts: CompiledArtifacts, expected: str, origin: str) -> None:
    """Check that the artifacts belong to the expected product.

    Raises:
        ArtifactsError: ``metadata.product_name`` differs from ``expected``.
    """
    found = artifacts.metadata.product_name
    if found == expected:
        return
    fix = f"Use the artifacts of {expected!r}, or load {found!r}."
    raise ArtifactsError(origin, [Problem("metadata.product_name", f"is {found!r}, expected {expected!r}", fix)])


def check_dependencies_exist(artifacts: CompiledArtifacts, dbt_names: frozenset[str], origin: str) -> None:
    """Check that each name in ``depends_on`` is a declared model, or a dbt model, seed, snapshot or source.

    Raises:
        ArtifactsError: Some names are unknown. The message lists all, each with the most similar known name.
    """
    models = artifacts.transforms.models if artifacts.transforms else []
    known = {model.name for model in models} | dbt_names
    problems = [
        dependency_problem(row, column, model.name, name, known)
        for row, model in enumerate(models)
        for column, name in enumerate(model.depends_on or [])
        if name not in known
    ]
    if problems:
        raise ArtifactsError(origin, problems)


def dependency_problem(row: int, column: int, model: str, name: str, known: Iterable[str]) -> Problem:
    """Describe a dependency on a name that does not exist, with the most similar known name."""
    return Problem(
        f"{_MODELS}[{row}].depends_on[{column}]",
        f"{model!r} depends on {name!r}, which does not exist",
        f"{did_you_mean(closest(name, known))}{_RECOMPILE}",
    )


def dependency_problems(models: Sequence[ResolvedModel]) -> list[Problem]:
    """List duplicate names and self-dependencies; without any of these, the first cycle with its path."""
    problems = [*_duplicates(models), *_self_dependencies(models)]
    return problems or list(_cycles(models))


def _check_version(content: Mapping[str, Any], origin: str) -> None:
    found = content.get("version", COMPILED_ARTIFACTS_VERSION)
    match = _VERSION.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        what = f"{_shown(found)} is not a version (such as {COMPILED_ARTIFACTS_VERSION!r})"
        raise ArtifactsError(origin, [Problem("version", what, "Compile the product again (floe platform compile).")])
    known = [int(part) for part in COMPILED_ARTIFACTS_VERSION.split(".")]
    if [int(match[1]), int(match[2])] <= known[:2]:
        return
    what = f"compiled by a newer floe: contract {found}, floe-core here knows up to {COMPILED_ARTIFACTS_VERSION}"
    fix = "pip install --upgrade floe-core floe-orchestrator-dagster, or compile with this floe-core."
    raise ArtifactsError(origin, [Problem("version", what, fix)])


def _field_problem(details: ErrorDetails, content: Mapping[str, Any]) -> Problem:
    location = _in_the_file(details, content)
    where, name = _json_path(location), _name_of(location, content)
    if details["type"] == "extra_forbidden":
        fix = "Remove it, or upgrade floe-core if a newer floe wrote it."
        return Problem(where, f"is a field that this contract does not have{name}", fix)
    message = validation_message(details)
    if details["type"] == "missing":
        return Problem(where, f"{message}{name}", "Compile the product again (floe platform compile).")
    if details["type"] == "value_error":
        return Problem(where, f"{message}{name}", _RECOMPILE)
    value = "" if is_empty(details) else _value(where, details["input"])
    return Problem(where, f"{message}{value}{name}", _RECOMPILE)


def _in_the_file(details: ErrorDetails, content: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the location as a path in the file. pydantic also puts names of union members into it."""
    found: Any = content
    placed: list[int | str] = []
    for part in details["loc"]:
        known: Any = dict(enumerate(found)) if isinstance(found, list) else found
        if isinstance(known, dict) and part in known:
            found = known[part]
        elif details["type"] != "missing" or part != details["loc"][-1]:
            continue
        placed.append(part)
    return tuple(placed)


def _name_of(location: tuple[int | str, ...], content: Mapping[str, Any]) -> str:
    """Name the model, or other named entry, that contains a location. A row number alone is hard to find in a list."""
    found: Any = content
    name = ""
    for part in location[:-1]:
        found = cast("Any", found)[part] if isinstance(found, (dict, list)) else None
        if isinstance(part, int) and isinstance(found, dict) and isinstance(found.get("name"), str) and not name:
            name = f" (in {found['name']!r})"
    return name


def _json_path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def _value(where: str, value: object) -> str:
    """Return the refused value for a message, unless its field may contain a secret."""
    return "" if any(word in where.lower() for word in _SECRET_WORDS) else f", not {_shown(value)}"


def _shown(value: object) -> str:
    """Return a scalar, shortened. Of other values return the type: they may contain secrets."""
    if value is not None and not isinstance(value, (str, int, float, bool)):
        return json_type_of(value)
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _enforcement_problems(artifacts: CompiledArtifacts) -> Iterator[Problem]:
    result = artifacts.enforcement_result
    if result is None or result.passed or result.enforcement_level != "strict":
        return
    yield Problem(
        "enforcement_result.passed",
        f"false, with enforcement_level 'strict': {result.error_count} policy errors",
        "See `floe platform compile --enforcement-report`, fix the violations and compile again.",
    )


def _duplicates(models: Sequence[ResolvedModel]) -> Iterator[Problem]:
    counts = Counter(model.name for model in models)
    for name, count in counts.items():
        if count > 1:
            rows = [str(row) for row, model in enumerate(models) if model.name == name]
            what = f"{name!r} is declared {count} times (entries {', '.join(rows)})"
            yield Problem(_MODELS, what, f"Keep one entry for {name!r} in floe.yaml and compile again.")


def _self_dependencies(models: Sequence[ResolvedModel]) -> Iterator[Problem]:
    for row, model in enumerate(models):
        if model.name in (model.depends_on or []):
            yield Problem(f"{_MODELS}[{row}].depends_on", f"{model.name!r} depends on itself", _RECOMPILE)


def _cycles(models: Sequence[ResolvedModel]) -> Iterator[Problem]:
    try:
        TopologicalSorter({model.name: model.depends_on or [] for model in models}).prepare()
    except CycleError as error:
        # graphlib reports a cycle as [a, b, …, a], each name a dependency of the next.
        path = " -> ".join(reversed(error.args[1]))
        yield Problem(_MODELS, f"circular dependency: {path} (each depends on the next)", _RECOMPILE)


def artifacts_path_from_environment() -> Path:
    """Read ``FLOE_ARTIFACTS_PATH``.

    Raises:
        ArtifactsError: The variable is not set. The message shows how to set it and how to create a sample product.
    """
    named = os.environ.get(ARTIFACTS_PATH_VARIABLE)
    if named:
        return user_path(named, ARTIFACTS_PATH_VARIABLE, ArtifactsError, "Write the path without `~`.")
    fix = (
        "Set it to the file that `floe platform compile` writes, and start again:\n"
        f"        export {ARTIFACTS_PATH_VARIABLE}=path/to/compiled_artifacts.json\n"
        "        dagster dev -m floe_orchestrator_dagster.definitions\n"
        "    No product yet? `floe-dagster demo retail-orders` writes one and shows how to run it."
    )
    raise ArtifactsError(ARTIFACTS_PATH_VARIABLE, [Problem("", "the environment variable is not set", fix)])


def orchestrator_config(artifacts: CompiledArtifacts, origin: str) -> DagsterConfig:
    """Read the orchestrator's configuration from the contract, ``plugins.orchestrator.config``.

    Raises:
        ConfigError: As :func:`~floe_orchestrator_dagster.config.read_config`.
    """
    orchestrator = artifacts.plugins.orchestrator if artifacts.plugins else None
    return read_config(orchestrator.config if orchestrator else None, origin)

"""Checks of declared names in a dbt project that has not been parsed yet and has no manifest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product.artifacts import dependency_problem
from floe_orchestrator_dagster.product.prepare import package_source_paths
from floe_orchestrator_dagster.product.project import PACKAGE_FILES, files_below

if TYPE_CHECKING:
    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.product.project import ProjectDirectory

_WORD = re.compile(rb"\w+")


def check_dependencies_are_mentioned(artifacts: CompiledArtifacts, project: ProjectDirectory, origin: str) -> None:
    """Check that each name in ``depends_on`` is a declared model, or a word in the files of the dbt project.

    A name that no file contains cannot be that of a model, seed, snapshot or source. Other unknown names are found
    after dbt has parsed the project. A project whose packages are missing is not checked.

    Raises:
        ArtifactsError: Some names are in no file. The message lists all.
    """
    models = artifacts.transforms.models if artifacts.transforms else []
    declared = {model.name for model in models}
    unknown = {name for model in models for name in model.depends_on or [] if name not in declared}
    if not unknown or _lacks_packages(project):
        return
    paths = [*project.source_paths, *package_source_paths(project)]
    for path in files_below(path.resolve() for path in paths):
        unknown -= {path.stem}
        if not unknown:
            return
        try:
            unknown -= {word.decode(errors="replace") for word in _WORD.findall(path.read_bytes())}
        except OSError:
            return  # dbt reports what it cannot read
    if unknown:
        raise ArtifactsError(
            origin,
            [
                dependency_problem(row, column, model.name, name, declared)
                for row, model in enumerate(models)
                for column, name in enumerate(model.depends_on or [])
                if name in unknown
            ],
        )


def _lacks_packages(project: ProjectDirectory) -> bool:
    declares = any((project.path / name).is_file() for name in PACKAGE_FILES)
    return declares and not project.packages_path.is_dir()

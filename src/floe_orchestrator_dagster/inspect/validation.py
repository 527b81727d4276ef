"""Validation of a product that reports all its problems at once.

Stages that do not depend on each other all run, also after an error. Only the trimmed copy of the manifest is written.
dbt runs only to parse the project with dbt v2, which is quick and refuses more than dbt-core.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from floe_core.schemas.compiled_artifacts import CompiledArtifacts
from pydantic import ValidationError

from floe_orchestrator_dagster.automation.cron import declared_schedule
from floe_orchestrator_dagster.config import config_path, examine_config
from floe_orchestrator_dagster.errors import ArtifactsError, ConfigError, FloeDagsterError, Problem, ProjectError
from floe_orchestrator_dagster.product import DbtConnection, DbtProject, Product, load_product
from floe_orchestrator_dagster.product.artifacts import (
    check_dependencies_exist,
    read_artifacts_file,
    validate_artifacts,
)
from floe_orchestrator_dagster.product.computes import compute_profiles, engine_choice
from floe_orchestrator_dagster.product.contracts import (
    contract_of,
    contract_problems,
    match_table_contracts,
    read_table_contracts,
)
from floe_orchestrator_dagster.product.manifest import check_models_exist, find_manifest, prepared_manifest
from floe_orchestrator_dagster.product.prepare import check_parse
from floe_orchestrator_dagster.product.profiles import Profile, select_profile
from floe_orchestrator_dagster.product.project import PROJECT_DIR_VARIABLE, find_project_path, read_project_directory
from floe_orchestrator_dagster.product.quality import match_quality_checks, quality_problems
from floe_orchestrator_dagster.product.spec import ProductSpec, read_spec
from floe_orchestrator_dagster.product.unparsed import check_dependencies_are_mentioned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import ParamSpec, TypeVar

    import dagster as dg

    from floe_orchestrator_dagster.code_location import CodeLocation
    from floe_orchestrator_dagster.config import DagsterConfig
    from floe_orchestrator_dagster.config.reading import Reading

    P = ParamSpec("P")
    T = TypeVar("T")


_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class LoadedProduct:
    """A valid product and its code location."""

    product: Product
    location: CodeLocation

    @property
    def definitions(self) -> dg.Definitions:
        """The product's Definitions."""
        return self.location.definitions


@dataclass(frozen=True)
class ProductWarning:
    """A problem that does not prevent the product from loading.

    Attributes:
        file: The file with the problem; empty when the message names it.
        problem: The problem. A warning from the log has neither place nor fix.
    """

    file: str
    problem: Problem

    def __str__(self) -> str:
        """Render as a problem, or as the message of a logged warning; without the file."""
        return str(self.problem) if self.problem.fix else self.problem.what


@dataclass(frozen=True)
class Findings:
    """The result of a validation.

    Attributes:
        errors: All problems that prevent the product from loading, by file.
        warnings: Problems that do not prevent it from loading.
        loaded: The product and its code location; None when there are errors.
    """

    errors: tuple[FloeDagsterError, ...] = ()
    warnings: tuple[ProductWarning, ...] = ()
    loaded: LoadedProduct | None = None


def examine_product(path: Path, *, parses: bool = True) -> Findings:
    """Check the product in ``path`` in stages (artifacts, configuration, dbt project, …), then load it as Dagster does.

    Args:
        path: The artifacts' file.
        parses: Whether the project is parsed, if dbt v2 is the engine.
    """
    stages = _Stages()
    with _recorded_warnings(path) as logged:
        _examine_stages(path, stages, parses=parses)
        # A product is valid only if it loads, which can find problems that the stages miss.
        product = None if stages.errors else stages.attempt(load_product, path)
        location = stages.attempt(_location, product) if product else None
    disagreements = [ProductWarning(str(path), problem) for problem in _disagreements(product)] if product else []
    loaded = LoadedProduct(product, location) if product and location else None
    return Findings(tuple(stages.errors), (*dict.fromkeys(logged), *disagreements), loaded)


class _Stages:
    """Runs stages one by one and collects their exceptions."""

    def __init__(self) -> None:
        self.errors: list[FloeDagsterError] = []

    def attempt(self, stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return the stage's result; None when it raises."""
        try:
            return stage(*args, **kwargs)
        except FloeDagsterError as error:
            self.errors.append(error)
        except OSError as error:  # a directory without permission, a name that is too long
            problem = Problem("", f"cannot be read ({error.strerror})", "Use a path that can be read.")
            self.errors.append(ProjectError(str(error.filename), [problem]))
        return None


def _examine_stages(path: Path, stages: _Stages, *, parses: bool) -> None:
    origin = str(path)
    content = stages.attempt(read_artifacts_file, path)
    if content is None:
        return
    artifacts = stages.attempt(validate_artifacts, content, origin) or _well_formed(content)
    configured = _Configured(examine_config(_orchestrator_config(content)), origin, stages)
    known = len(stages.errors)
    project_path = stages.attempt(find_project_path, path)
    is_located = len(stages.errors) == known
    if artifacts is not None:
        stages.attempt(read_table_contracts, artifacts.data_contracts, origin)
        name = artifacts.metadata.product_name
        spec = stages.attempt(read_spec, project_path or path.parent, name) or ProductSpec()
        unbuilt = Product(path, origin, artifacts, configured.reading.config, spec, dbt=None)
        if spec.schedule is not None and spec.schedule.cron:  # the configured one is checked with the configuration
            stages.attempt(declared_schedule, unbuilt)
        if project_path is not None and is_located and artifacts.transforms is not None:
            found = _examine_dbt(unbuilt, project_path, configured, stages, parses=parses)
            unbuilt = replace(unbuilt, dbt=found)
        can_select = is_located and (project_path is None or unbuilt.dbt is not None)
        if can_select and artifacts.transforms is not None:
            names = unbuilt.dbt.manifest.names if unbuilt.dbt else frozenset()
            stages.attempt(check_dependencies_exist, artifacts, names, origin)
        configured.check_against(unbuilt, can_select=can_select)
    configured.report()


class _Configured:
    """The configuration and its problems, reported as one error in the order of the stages."""

    def __init__(self, reading: Reading[DagsterConfig], origin: str, stages: _Stages) -> None:
        self.reading = reading
        self._origin = origin
        self._stages = stages
        self._place = len(stages.errors)
        self._problems = list(reading.problems)

    def is_whole(self, section: str) -> bool:
        """Return whether a section has no problems, so that settings which depend on it can be checked."""
        place = config_path(section)
        return not any(problem.where.startswith(place) for problem in self.reading.problems)

    def check_against(self, unbuilt: Product, *, can_select: bool) -> None:
        """Check names, jobs and selections in the configuration against the product."""
        from floe_orchestrator_dagster.assets.selection import NodeSelection
        from floe_orchestrator_dagster.automation.validation import automation_problems, missing_states

        lost = self.reading.lost | {section for section in ("partitions", "steps") if not self.is_whole(section)}
        selection = NodeSelection(unbuilt) if can_select else None
        found = [*automation_problems(unbuilt, selection, lost), *missing_states(unbuilt)]
        self._problems.extend(self.reading.in_the_file(problem) for problem in found)

    def report(self) -> None:
        """Add the error if there are problems."""
        if self._problems:
            self._stages.errors.insert(self._place, ConfigError(self._origin, self._problems))


def _examine_dbt(
    unbuilt: Product, project_path: Path, configured: _Configured, stages: _Stages, *, parses: bool
) -> DbtProject | None:
    artifacts, origin = unbuilt.artifacts, unbuilt.origin
    directory = stages.attempt(read_project_directory, project_path, artifacts.metadata.product_name)
    if directory is None:
        return None
    profile = stages.attempt(select_profile, artifacts, directory, origin)
    if profile is not None and configured.is_whole("computes"):
        stages.attempt(compute_profiles, artifacts, profile, unbuilt.config, directory, origin)
    known = len(stages.errors)
    if parses and profile is not None and artifacts.transforms is not None and configured.is_whole("dbt"):
        choice = engine_choice(unbuilt.config, artifacts.transforms.default_compute)
        stages.attempt(_check_v2, DbtConnection(directory, profile, choice=choice))
    if find_manifest(directory) is None:
        stages.attempt(check_dependencies_are_mentioned, artifacts, directory, origin)
        if len(stages.errors) > known:  # `prepare` would report the same
            return None
    manifest = stages.attempt(prepared_manifest, directory, unbuilt.path)
    if manifest is None:
        return None
    stages.attempt(check_models_exist, artifacts, manifest, origin)
    # Selections do not depend on the profile.
    unknown = Profile(name=directory.profile_name or "", target=None, outputs={}, default_target="", variables=())
    return DbtProject(directory, profile or unknown, manifest, profiles={})


def _check_v2(dbt: DbtConnection) -> None:
    """Report what dbt v2 refuses in the project, if it is the engine."""
    if dbt.is_on_v2:
        check_parse(dbt)


def _disagreements(product: Product) -> list[Problem]:
    """Find differences between contract and dbt project, or report that the dbt project is missing."""
    if product.dbt is None:
        fix = f"Set {PROJECT_DIR_VARIABLE} to the dbt project, or put the artifacts into it."
        return [Problem("", "no dbt project, so assets can be seen but not run", fix)] if product.models else []
    return product_disagreements(product)


def _well_formed(content: Mapping[str, Any]) -> CompiledArtifacts | None:
    """Parse artifacts with valid types but rejected content, such as a cycle; None for others."""
    try:
        return CompiledArtifacts.model_validate(content)
    except ValidationError:
        return None


def _orchestrator_config(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the configuration in artifacts that need not be valid."""
    found: object = content
    for key in ("plugins", "orchestrator", "config"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _location(product: Product) -> CodeLocation:
    import dagster as dg

    from floe_orchestrator_dagster.code_location import build_location

    try:
        location = build_location(product)
        dg.Definitions.validate_loadable(location.definitions)
    except dg.DagsterError as error:
        fix = "Correct what it names, in floe.yaml, the dbt project or plugins.orchestrator.config."
        what = f"Dagster refuses the definitions: {error.__cause__ or error}"
        raise ArtifactsError(product.origin, [Problem("", what, fix)]) from None
    return location


@contextmanager
def _recorded_warnings(path: Path) -> Iterator[list[ProductWarning]]:
    """Collect the warnings that this package logs instead of printing them."""
    recorder = _Recorder(path)
    package = logging.getLogger(_PACKAGE)
    propagated = package.propagate
    package.addHandler(recorder)
    package.propagate = False
    try:
        yield recorder.warnings
    finally:
        package.propagate = propagated
        package.removeHandler(recorder)


class _Recorder(logging.Handler):
    """Collects the warnings of this package's loggers, with their problems."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[ProductWarning] = []
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's problems, or else its message."""
        problems = getattr(record, "problems", None)
        if problems:
            self.warnings.extend(ProductWarning(str(self._path), problem) for problem in problems)
        else:
            self.warnings.append(ProductWarning("", Problem("", record.getMessage(), "")))


def product_disagreements(product: Product) -> list[Problem]:
    """List the differences between contract and dbt project; empty without a dbt project.

    These are quality checks without a dbt test, checks whose severity or parameters differ from dbt's, and data
    contracts without a table.

    Raises:
        ArtifactsError: A data contract is not valid.
    """
    tables = read_table_contracts(product.artifacts.data_contracts, product.origin)
    if product.dbt is None:
        return []
    manifest = product.dbt.manifest.content
    quality = match_quality_checks(product.models, manifest)
    ingested = [
        contract_of(tables, output.physical_table, output.logical_table)
        for output in product.artifacts.ingestion_outputs
    ]
    unmatched = match_table_contracts(tables, manifest).unmatched
    return [
        *quality_problems(quality, manifest),
        *contract_problems([table for table in unmatched if table not in ingested]),
    ]

"""The component of a product, for Dagster projects that ``dg`` and ``create-dagster`` scaffold.

Components: https://docs.dagster.io/guides/build/components
"""

# Dagster reads the annotations of the component's fields as they are: no `from __future__ import annotations` here.
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import BaseModel, Field

from floe_orchestrator_dagster.assets.translator import FloeDbtTranslator, checked_translator
from floe_orchestrator_dagster.code_location import definitions_to_serve
from floe_orchestrator_dagster.errors import EntryPointError
from floe_orchestrator_dagster.product import Overrides
from floe_orchestrator_dagster.product.compilation import ARTIFACTS_FILE
from floe_orchestrator_dagster.upstream.dagster_dbt_names import DagsterDbtTranslator
from floe_orchestrator_dagster.upstream.dagster_translation import Translation, resolve_translation

_PROJECT_ROOT = "{{ context.project_root }}"


class FloeProductScaffoldParams(BaseModel):
    """Options of ``dg scaffold defs floe_orchestrator_dagster.FloeProductComponent``."""

    artifacts: str = Field(ARTIFACTS_FILE, description="Path of the product's compiled_artifacts.json.")
    project_dir: str | None = Field(
        None, description="Directory of the dbt project, if it is not that of the artifacts."
    )
    environment: str | None = Field(None, description="Output of the dbt profile, such as production.")


class FloeProductScaffolder(dg.Scaffolder[FloeProductScaffoldParams]):
    """Writes ``defs.yaml`` with paths that start at the root of the Dagster project."""

    @classmethod
    def get_scaffold_params(cls) -> type[FloeProductScaffoldParams]:
        """Return the options."""
        return FloeProductScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[FloeProductScaffoldParams]) -> None:
        """Write the file."""
        params, root = request.params, request.project_root or Path.cwd()
        attributes = {
            "artifacts": _from_root(params.artifacts, root),
            "project_dir": _from_root(params.project_dir, root) if params.project_dir else None,
            "environment": params.environment,
        }
        dg.scaffold_component(request, {key: value for key, value in attributes.items() if value is not None})


def _from_root(path: str, root: Path) -> str:
    """Return a path of the command line, which is relative to the working directory, as one below the project."""
    return f"{_PROJECT_ROOT}/{os.path.relpath(path, root)}"


def _resolve_path(context: dg.ResolutionContext, path: str) -> Path:
    return context.resolve_source_relative_path(path)


@dg.scaffold_with(FloeProductScaffolder)
@dataclass
class FloeProductComponent(dg.Component, dg.Resolvable):
    """A floe data product: its dbt models, seeds, snapshots and sources as assets, with checks, jobs and schedules.

    A Dagster project can have several. Everything else comes from the compiled product: floe.yaml, and
    ``plugins.orchestrator.config`` of manifest.yaml.

    Example:
        .. code-block:: yaml

            type: floe_orchestrator_dagster.FloeProductComponent
            attributes:
              artifacts: "{{ context.project_root }}/shop/compiled_artifacts.json"
    """

    artifacts: Annotated[
        Path,
        dg.Resolver(
            _resolve_path,
            model_field_type=str,
            description="The product's compiled_artifacts.json. A relative path starts at the directory of defs.yaml.",
            examples=[f"{_PROJECT_ROOT}/shop/{ARTIFACTS_FILE}"],
        ),
    ]
    project_dir: Annotated[
        Path | None,
        dg.Resolver(
            lambda context, path: _resolve_path(context, path) if path else None,
            model_field_type=str | None,
            description="The dbt project, if it is neither the directory of the artifacts nor one of its parents.",
        ),
    ] = None
    environment: Annotated[
        str | None,
        dg.Resolver.default(description="Output of the dbt profile, instead of FLOE_ENV.", examples=["production"]),
    ] = None
    translation: Annotated[
        Translation | None,
        dg.Resolver(
            resolve_translation,
            model_field_type=str | dg.AssetAttributesModel | None,
            description="Asset attributes that replace floe's. Templates can read `node`, the dbt node, and `spec`.",
            inject_before_resolve=False,
        ),
    ] = None
    translator: Annotated[
        str | None,
        dg.Resolver.default(
            description="Class of a translator, as module.Class: a subclass of FloeDbtTranslator.",
            examples=["my_project.translators.ShopTranslator"],
        ),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002  # Dagster's parameter
        """Load the product.

        Raises:
            FloeDagsterError: A part of the product is missing or not valid.
        """
        overrides = Overrides(self.project_dir.resolve() if self.project_dir else None, self.environment)
        return definitions_to_serve(
            Path(os.path.normpath(self.artifacts)), translator=self._translator(), overrides=overrides
        )

    def _translator(self) -> DagsterDbtTranslator | None:
        custom = _imported(self.translator) if self.translator else None
        if self.translation is None:
            return custom
        return _translated(custom or FloeDbtTranslator(), self.translation)


def _imported(name: str) -> DagsterDbtTranslator:
    """Create the translator of a class, given as ``module.Class``.

    Raises:
        EntryPointError: The class does not exist, or is of another kind.
    """
    module, _, attribute = name.rpartition(".")
    fix = "Write it as module.Class, such as my_project.translators.ShopTranslator."
    try:
        found = getattr(import_module(module), attribute) if module else None
    except (ImportError, AttributeError) as error:
        raise EntryPointError(f"translator {name!r} cannot be imported: {error}. {fix}") from error
    if not (isinstance(found, type) and issubclass(found, DagsterDbtTranslator)):
        raise EntryPointError(f"translator {name!r} is not a subclass of FloeDbtTranslator. {fix}")
    translator = found()
    checked_translator(translator)
    return translator


def _translated(translator: DagsterDbtTranslator, translation: Translation) -> DagsterDbtTranslator:
    """Return a translator that applies ``translation`` to the specs of another."""
    base: Any = type(translator)

    class Translated(base):  # type: ignore[misc]
        def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: object) -> dg.AssetSpec:
            spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
            return translation(spec, manifest["nodes"].get(unique_id) or manifest["sources"][unique_id])

    # Translators can have constructors with arguments, and be frozen dataclasses.
    object.__setattr__(translator, "__class__", Translated)
    return translator

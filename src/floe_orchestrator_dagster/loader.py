"""Functions that load a product, for generated ``definitions.py`` files and modules of users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg
    from dagster_dbt import DagsterDbtTranslator

ARTIFACTS_FILE = "compiled_artifacts.json"


def load_product_definitions(
    product_name: str, project_dir: str | Path, *, translator: DagsterDbtTranslator | None = None
) -> dg.Definitions:
    """Load the product whose ``compiled_artifacts.json`` is in ``project_dir``.

    Args:
        product_name: The product's name, as in the artifacts.
        project_dir: Directory with ``compiled_artifacts.json``.
        translator: Translates dbt nodes to Dagster: an instance of a subclass of
            :class:`~floe_orchestrator_dagster.FloeDbtTranslator`, or of dagster-dbt's ``DagsterDbtTranslator``.

    Raises:
        FloeDagsterError: The artifacts belong to another product, or are not valid.
    """
    from floe_orchestrator_dagster.code_location import definitions_to_serve

    path = Path(project_dir).absolute() / ARTIFACTS_FILE
    return definitions_to_serve(path, expected_name=product_name, translator=translator)


def load_definitions_from_environment(*, translator: DagsterDbtTranslator | None = None) -> dg.Definitions:
    """Load the product that the environment variable ``FLOE_ARTIFACTS_PATH`` names.

    Use it in a module of your own instead of ``dagster dev -m floe_orchestrator_dagster.definitions``.

    Args:
        translator: As for :func:`load_product_definitions`.

    Raises:
        FloeDagsterError: The variable is not set, or the artifacts are not valid.
    """
    from floe_orchestrator_dagster.code_location import definitions_to_serve
    from floe_orchestrator_dagster.product import artifacts_path_from_environment

    return definitions_to_serve(artifacts_path_from_environment(), translator=translator)

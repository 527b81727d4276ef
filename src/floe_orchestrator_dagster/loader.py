"""What generated ``definitions.py`` files call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

ARTIFACTS_FILE = "compiled_artifacts.json"


def load_product_definitions(product_name: str, project_dir: str | Path) -> dg.Definitions:
    """Load the product whose ``compiled_artifacts.json`` lies in ``project_dir``.

    Args:
        product_name: The product's name, as in the artifacts.
        project_dir: Directory that holds ``compiled_artifacts.json``.

    Raises:
        FloeDagsterError: The artifacts are of another product, or cannot be used.
    """
    from floe_orchestrator_dagster.code_location import definitions_to_serve

    return definitions_to_serve(Path(project_dir).absolute() / ARTIFACTS_FILE, expected_name=product_name)

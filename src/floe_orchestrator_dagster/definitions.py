"""The code location: ``dagster dev -m floe_orchestrator_dagster.definitions``.

``FLOE_ARTIFACTS_PATH`` is read when Dagster asks for the definitions, not when this module is imported.
"""

from __future__ import annotations

import dagster as dg

from floe_orchestrator_dagster.code_location import definitions_to_serve
from floe_orchestrator_dagster.product import artifacts_path_from_environment
from floe_orchestrator_dagster.upstream.dagster_load_type import load_type

# Dagster 1.10 and 1.11 report the load type correctly only at import. It applies to the first load of the definitions,
# which takes it from the list.
_type_of_first_load = [load_type()]


@dg.definitions
def defs() -> dg.Definitions:
    """Build the Definitions of the product that ``FLOE_ARTIFACTS_PATH`` names."""
    loaded = _type_of_first_load.pop() if _type_of_first_load else None
    return definitions_to_serve(artifacts_path_from_environment(), loaded=loaded)

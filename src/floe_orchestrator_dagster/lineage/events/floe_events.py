"""floe-core's lineage events as OpenLineage's JSON."""

from __future__ import annotations

import re
from datetime import timezone
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_core.lineage import LineageDataset, LineageEvent

PRODUCER = f"urn:floe-orchestrator-dagster:{version('floe-orchestrator-dagster')}"
_OFFICIAL = "https://openlineage.io/spec/"
_SPECIFICATION = f"{_OFFICIAL}2-0-2/OpenLineage.json#/$defs"
# Facets of a dataset's use in a run, not of the dataset itself. floe-core has one field for both kinds.
_INPUT_FACETS = frozenset({"dataQualityAssertions", "dataQualityMetrics", "icebergScanReport", "inputStatistics"})
_OUTPUT_FACETS = frozenset({"icebergCommitReport", "outputStatistics"})
# Facets whose module in openlineage's client has a different name.
_MODULES = {"dataSource": "datasource", "version": "dataset_version"}


def open_lineage_event(event: LineageEvent) -> dict[str, Any]:
    """Convert floe-core's event to OpenLineage's JSON.

    A producer that is not a URI, such as floe-core's ``floe``, is replaced by this package's. Facets get ``_producer``
    and ``_schemaURL`` if they lack them, and move to the fields that the specification requires.
    """
    producer = event.producer if urlsplit(event.producer).scheme else PRODUCER
    instant = event.event_time if event.event_time.tzinfo else event.event_time.replace(tzinfo=timezone.utc)
    return {
        "eventType": event.event_type.value,
        "eventTime": instant.isoformat(),
        "producer": producer,
        "schemaURL": f"{_SPECIFICATION}/RunEvent",
        "run": {"runId": str(event.run.run_id), "facets": _facets(event.run.facets, "run", producer)},
        "job": {
            "namespace": event.job.namespace,
            "name": event.job.name,
            "facets": _facets(event.job.facets, "job", producer),
        },
        "inputs": [_dataset(dataset, "input", _INPUT_FACETS, producer) for dataset in event.inputs],
        "outputs": [_dataset(dataset, "output", _OUTPUT_FACETS, producer) for dataset in event.outputs],
    }


def _dataset(dataset: LineageDataset, use: str, facets_of_use: frozenset[str], producer: str) -> dict[str, Any]:
    own = {name: facet for name, facet in dataset.facets.items() if name not in facets_of_use}
    used = {name: facet for name, facet in dataset.facets.items() if name in facets_of_use}
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "facets": _facets(own, "dataset", producer),
        f"{use}Facets": _facets(used, f"{use}_dataset", producer),
    }


def _facets(facets: Mapping[str, Any], kind: str, producer: str) -> dict[str, Any]:
    return {
        name: _complete(name, facet, kind, producer) if isinstance(facet, dict) else facet
        for name, facet in facets.items()
    }


def _complete(name: str, facet: Mapping[str, Any], kind: str, producer: str) -> dict[str, Any]:
    given = facet.get("_schemaURL")
    own = given if given and not str(given).startswith(_OFFICIAL) else None
    base = f"{_SPECIFICATION}/{''.join(part.capitalize() for part in kind.split('_'))}Facet"
    return {"_producer": producer, **facet, "_schemaURL": own or _client_schema(name, kind) or given or base}


@cache
def _client_schema(name: str, kind: str) -> str | None:
    """Return the schema of a facet from openlineage's client; None when the client does not have the facet."""
    from openlineage.client import facet_v2

    stem = _MODULES.get(name) or re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
    for place in dict.fromkeys([kind, kind.rpartition("_")[2]]):
        module = getattr(facet_v2, f"{stem}_{place}", None)
        wanted = f"{stem}_{place}".replace("_", "") + "facet"
        for title, part in vars(module).items() if module else ():
            if title.lower() == wanted and hasattr(part, "_get_schema"):
                return str(part._get_schema())  # noqa: SLF001  # the client has no public function for it
    return None

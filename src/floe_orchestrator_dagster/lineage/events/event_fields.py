"""Fields of all lineage events: producer, job, run and parent runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from openlineage.client.event_v2 import Dataset, InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import BaseFacet, error_message_run, processing_engine_run

from floe_orchestrator_dagster.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openlineage.client.facet_v2 import JobFacet, RunFacet

    from floe_orchestrator_dagster.lineage.events.run import LineageRun, RunReference, State

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
AnyFacet = TypeVar("AnyFacet", bound=BaseFacet)
AnyDataset = TypeVar("AnyDataset", bound=Dataset)


def run_event(  # noqa: PLR0913  # an event has these parts
    run: LineageRun,
    reference: RunReference,
    state: State,
    time: str,
    *,
    run_facets: Mapping[str, RunFacet],
    job_facets: Mapping[str, JobFacet],
    inputs: Sequence[InputDataset] = (),
    outputs: Sequence[OutputDataset] = (),
) -> RunEvent:
    """Create an event. This package is the producer of the event and of all its facets."""
    producer = run.producer
    return RunEvent(
        eventType=RunState[state],
        eventTime=time,
        producer=producer,
        run=Run(runId=reference.run_id, facets=_produced(run_facets, producer)),
        job=Job(namespace=reference.namespace, name=reference.name, facets=_produced(job_facets, producer)),
        inputs=[_with_producer(dataset, producer) for dataset in inputs],
        outputs=[_with_producer(dataset, producer) for dataset in outputs],
    )


def error_facet(message: str, language: str) -> error_message_run.ErrorMessageRunFacet:
    """Return the facet with the reason of a failed or aborted run; credentials are masked."""
    return error_message_run.ErrorMessageRunFacet(
        message=redact(_ANSI.sub("", message).strip()), programmingLanguage=language.upper()
    )


def engine_facet(name: str, version: str, run: LineageRun) -> dict[str, RunFacet]:
    """Return the facet with the processing engine; empty when its version is unknown."""
    if not version:
        return {}
    own = run.adapter_version or None
    engine = processing_engine_run.ProcessingEngineRunFacet(version=version, name=name, openlineageAdapterVersion=own)
    return {"processing_engine": engine}


def _with_producer(dataset: AnyDataset, producer: str) -> AnyDataset:
    changes: dict[str, Any] = {
        field: _produced(getattr(dataset, field) or {}, producer)
        for field in ("facets", "inputFacets", "outputFacets")
        if hasattr(dataset, field)
    }
    return attrs.evolve(dataset, **changes)


def _produced(facets: Mapping[str, AnyFacet], producer: str) -> dict[str, AnyFacet]:
    return {name: attrs.evolve(facet, producer=producer) for name, facet in facets.items()}

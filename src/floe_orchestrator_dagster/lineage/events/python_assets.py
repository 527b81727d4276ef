"""Lineage events of the product itself and of Python assets."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import output_statistics_output_dataset, schema_dataset

from floe_orchestrator_dagster.lineage.datasets.names import DatasetName
from floe_orchestrator_dagster.lineage.events.facets import dataset_facets, job_facets, product_job_facets
from floe_orchestrator_dagster.lineage.events.run import engine_facet, error_facet, event_time, run_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.facet_v2 import RunFacet

    from floe_orchestrator_dagster.lineage.events.run import LineageRun, RunReference, State

    AssetKey = tuple[str, ...]


@dataclass(frozen=True)
class PythonAsset:
    """An asset that is built by Python, not by dbt.

    Attributes:
        key: Its asset key.
        reads: Keys of the assets that it reads.
        description: Its description.
        owners: Its owners.
        tags: Its tags.
        columns: Its columns and their types; empty when they are unknown.
    """

    key: AssetKey
    reads: Sequence[AssetKey] = ()
    description: str = ""
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def job_name(self) -> str:
        """The name of its job and of its dataset: the key, its parts joined by slashes."""
        return "/".join(self.key)


def product_event(  # noqa: PLR0913  # an event needs all of these
    run: LineageRun,
    state: State,
    at: datetime,
    why: str = "",
    *,
    inputs: Sequence[InputDataset] = (),
    outputs: Sequence[OutputDataset] = (),
) -> RunEvent:
    """Create an event of the product's run.

    Args:
        run: The Dagster run.
        state: START, COMPLETE, FAIL or ABORT.
        at: Time of the event.
        why: Reason of a FAIL or ABORT.
        inputs: Datasets that the run reads and does not build (:meth:`DbtEvents.boundary`).
        outputs: Datasets that the run builds.
    """
    facets = {
        **run.run_facets(run.starter),
        **engine_facet("dagster", run.dagster_version, run),
        **({"errorMessage": error_facet(why, "python")} if why else {}),
    }
    return run_event(
        run,
        run.product_run,
        state,
        event_time(at),
        run_facets=facets,
        job_facets=product_job_facets(run.product),
        inputs=inputs,
        outputs=outputs,
    )


def asset_event(  # noqa: PLR0913  # an event needs all of these
    run: LineageRun,
    asset: PythonAsset,
    state: State,
    at: datetime,
    why: str = "",
    *,
    known: Mapping[AssetKey, DatasetName] = MappingProxyType({}),
    rows: int | None = None,
) -> RunEvent:
    """Create an event of a Python asset's materialization: a job with the name of the asset, which writes a dataset.

    Args:
        run: The step.
        asset: The asset.
        state: START, COMPLETE, FAIL or ABORT.
        at: Time of the event.
        why: Reason of a FAIL or ABORT.
        known: Dataset names of assets that are dbt's tables (:meth:`DbtEvents.identity`). The dataset of any other
            asset has the namespace ``dagster://{namespace}`` and the asset's key as its name.
        rows: Number of written rows; None when it is unknown.
    """
    reference: RunReference = run.job_run(asset.job_name)
    names = {key: known.get(key) or asset_dataset(run, key) for key in (*asset.reads, asset.key)}
    facets: dict[str, RunFacet] = {
        **run.run_facets(run.product_run),
        **engine_facet("dagster", run.dagster_version, run),
        **({"errorMessage": error_facet(why, "python")} if why else {}),
    }
    fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in asset.columns.items()]
    return run_event(
        run,
        reference,
        state,
        event_time(at),
        run_facets=facets,
        job_facets=job_facets(
            "DAGSTER",
            "ASSET",
            asset.description,
            asset.owners,
            [(key, value or "true", "DAGSTER") for key, value in asset.tags.items()],
        ),
        inputs=[InputDataset(names[key].namespace, names[key].name) for key in asset.reads],
        outputs=[_output(names[asset.key], asset, fields, rows)],
    )


def asset_dataset(run: LineageRun, key: AssetKey) -> DatasetName:
    """Return the dataset name of an asset that is not a table of dbt."""
    return DatasetName(f"dagster://{run.namespace}", "/".join(key))


def _output(
    name: DatasetName, asset: PythonAsset, fields: list[schema_dataset.SchemaDatasetFacetFields], rows: int | None
) -> OutputDataset:
    facets = dataset_facets(asset.description, asset.owners, fields)
    if rows is None:
        return OutputDataset(name.namespace, name.name, facets=facets)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
    return OutputDataset(name.namespace, name.name, facets=facets, outputFacets={"outputStatistics": statistics})

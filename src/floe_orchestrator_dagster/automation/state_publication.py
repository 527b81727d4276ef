"""Publication of the state: what the runs of a product have built, read from Dagster's event log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import ManifestError, StateError
from floe_orchestrator_dagster.execution.step.retry import was_reused
from floe_orchestrator_dagster.execution.step.state_records import recorded_state
from floe_orchestrator_dagster.state.built import BuiltState, dbt_of, publish_built, whole_manifest
from floe_orchestrator_dagster.state.changes import state_fingerprints
from floe_orchestrator_dagster.state.location import configured_url
from floe_orchestrator_dagster.upstream.dagster_history import instance_id, newest_event
from floe_orchestrator_dagster.upstream.dagster_materializations import latest_materializations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
    from floe_orchestrator_dagster.execution.step.state_records import RecordedState
    from floe_orchestrator_dagster.product import Product

_INTERVAL_SECONDS = 60
_MOST_RUNS = 50
_PAGE = 100
_RUN_RESULTS = "https://schemas.getdbt.com/dbt/run-results/v6.json"
_TYPES = dg.DagsterEventType


def built_state(instance: dg.DagsterInstance, product: Product, key_of: Mapping[str, dg.AssetKey]) -> BuiltState:
    """Read what the runs of a product have built.

    Args:
        instance: The Dagster instance.
        product: The product.
        key_of: Asset key of every model, seed and snapshot, by unique id.

    Raises:
        ManifestError: The manifest has been replaced since the product was loaded.
        StateError: The product has no dbt project.
    """
    dbt = dbt_of(product)
    manifest = whole_manifest(dbt)
    position = newest_event(instance)  # before all other queries: what they find later belongs to a later state
    keys = {node["unique_id"]: key_of[node["unique_id"]] for node in dbt.manifest.asset_nodes}
    latest = latest_materializations(instance, keys.values())
    current, built, results = state_fingerprints(dbt), dict[str, str](), []
    nodes = dict(manifest["nodes"])
    for unique_id, key in sorted(keys.items()):
        if key not in latest:
            continue
        metadata = _of_build(instance, key, latest[key].metadata)
        record = recorded_state(metadata)
        if record is None:
            continue
        nodes[unique_id] = {**nodes[unique_id], **_known(record)}
        results.append(_result(unique_id, metadata, nodes[unique_id]))
        if record.fingerprint == current.get(unique_id):
            built[unique_id] = record.fingerprint
    tests = {unique_id: version for unique_id, version in current.items() if unique_id not in keys}
    described = {**manifest, "nodes": nodes}
    run_results = _run_results(manifest, results)
    return BuiltState(
        built | tests, described, run_results, instance_id(instance), position, lambda: newest_event(instance)
    )


def state_sensor(translator: ProductTranslator) -> dg.SensorDefinition | None:
    """Define the sensor that publishes the state after successful runs; None if no state is configured.

    It starts running when the code location is loaded, and launches no runs. Its cursor has the runs that it has seen,
    because the order of their ends depends on the clocks of several machines. If the store cannot be reached, the next
    tick tries again.
    """
    product = translator.product
    if product.config.state is None or product.dbt is None:
        return None

    @dg.sensor(
        name=f"{product.identifier}_state",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Publishes what successful runs of {product.name} have built, for pull requests.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(_publish(context, translator))

    return sensor


def _publish(context: dg.SensorEvaluationContext, translator: ProductTranslator) -> str:
    """Publish the state if a run has succeeded since the last publication; return the message of the tick."""
    product, cursor = translator.product, json.loads(context.cursor or "{}")
    url = configured_url(product)
    if url is None:
        return "Nothing is published: an environment variable in `state.url` is not set."
    ended = _succeeded_runs(context.instance)
    known = {*cursor.get("runs", ())}
    new = [one for one in ended if one not in known]
    run_id = next((one for one in new if _is_about(context.instance, one, translator)), None)
    if run_id is None:
        if ended:
            context.update_cursor(json.dumps({**cursor, "runs": ended}))
        return "No run of the product has succeeded since the last publication."
    try:
        built = built_state(context.instance, product, translator.key_of)
        is_new = built.digest != cursor.get("digest")
        is_latest = not is_new or publish_built(product, built, run_id, url).is_latest
    except (ManifestError, StateError) as error:
        context.log.warning("the state of run %s is not published yet: %s", run_id, error)
        return f"The state is not published yet: {error}"
    # A state that has not become the latest is published again by the next run.
    context.update_cursor(json.dumps({"runs": ended, "digest": built.digest if is_latest else ""}))
    if not is_new:
        return "The state has not changed since the last publication."
    if not is_latest:
        return f"Stored the state after run {run_id}. It is not the latest: the store has one of later builds."
    tables = len(set(built.fingerprints) & {node["unique_id"] for node in dbt_of(product).manifest.asset_nodes})
    return f"Published the state after run {run_id}: {tables} tables and views."


def _succeeded_runs(instance: dg.DagsterInstance) -> list[str]:
    """Return the ids of the last runs that succeeded, those that ended last first, by the clocks of their processes."""
    succeeded = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
    records = instance.get_run_records(succeeded, limit=_MOST_RUNS, order_by="update_timestamp")
    return [record.dagster_run.run_id for record in records]


def _is_about(instance: dg.DagsterInstance, run_id: str, translator: ProductTranslator) -> bool:
    """Return whether a run was to build tables of the product.

    A run whose tables are not part of the state counts, too: the state has these tables no longer.
    """
    keys = {translator.key_of[node["unique_id"]] for node in dbt_of(translator.product).manifest.asset_nodes}
    planned = instance.all_logs(run_id, of_type=_TYPES.ASSET_MATERIALIZATION_PLANNED)
    return any(entry.dagster_event is not None and entry.dagster_event.asset_key in keys for entry in planned)


def _of_build(
    instance: dg.DagsterInstance, key: dg.AssetKey, latest: Mapping[str, dg.MetadataValue[Any]]
) -> Mapping[str, dg.MetadataValue[Any]]:
    """Return the metadata of the last materialization that is a build, not the reuse of one; empty without one."""
    if not was_reused(latest):
        return latest
    cursor, has_more = None, True
    while has_more:
        page = instance.fetch_materializations(key, limit=_PAGE, cursor=cursor)
        for record in page.records:
            found = record.asset_materialization
            if found is not None and not was_reused(found.metadata):
                return found.metadata
        cursor, has_more = page.cursor, page.has_more
    return {}


def _known(record: RecordedState) -> dict[str, str]:
    return {name: value for name, value in record.relation.items() if value}


def _result(unique_id: str, metadata: Mapping[str, dg.MetadataValue[Any]], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a build in the form of dbt's run results."""
    status, seconds = metadata.get("status"), metadata.get("Execution Duration")
    return {
        "unique_id": unique_id,
        "status": status.value if status is not None else "success",
        "execution_time": seconds.value if seconds is not None else 0.0,
        "timing": [],
        "thread_id": "",
        "adapter_response": {},
        "message": None,
        "failures": None,
        "compiled": None,
        "compiled_code": None,
        "relation_name": node.get("relation_name"),
    }


def _run_results(manifest: Mapping[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    kept = {name: metadata.get(name) for name in ("dbt_version", "generated_at", "invocation_id")}
    seconds = sum(result["execution_time"] or 0.0 for result in results)
    described = {"dbt_schema_version": _RUN_RESULTS, **kept, "env": {}}
    return {"metadata": described, "results": results, "elapsed_time": seconds, "args": {}}

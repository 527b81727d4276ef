"""One load of a product in this process, for ``compare.py``; prints its cost as JSON.

``stock`` is plain dagster-dbt on the same manifest, and imports nothing of this package. ``floe`` goes through the door
that Dagster uses: ``floe_orchestrator_dagster.definitions`` with ``FLOE_ARTIFACTS_PATH``.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg


def main() -> None:
    """Measure a process.

    ``load`` is a code server, ``reload`` the worker of a run of the whole job, ``reload-one`` that of a run of one
    model, and ``plugin`` the plugin's import.
    """
    who, what, artifacts = sys.argv[1:]
    if what == "plugin":
        print(json.dumps({"import": plugin_import(who)}))
        return
    os.environ["FLOE_ARTIFACTS_PATH"] = artifacts
    make = floe_definitions() if who == "floe" else stock_definitions(Path(artifacts))
    load_as_dagster_does("INITIALIZATION" if what == "load" else "RECONSTRUCTION")
    imported = time.process_time()
    model = one_model(Path(artifacts)) if what == "reload-one" else None
    measured = (
        loaded(make()) if what == "load" else reloaded(make(), "build_everything" if who == "stock" else None, model)
    )
    measured["cpu"] = time.process_time() - imported
    measured["process_cpu"] = time.process_time()
    measured["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured))


def load_as_dagster_does(load_type: str) -> None:
    """Say in this process, as Dagster's processes do, that Dagster loads the definitions and for what purpose.

    A code server has imported its server before.
    """
    if load_type == "INITIALIZATION":
        import_module("dagster._grpc.server")
    from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType

    DefinitionsLoadContext.set(DefinitionsLoadContext(DefinitionsLoadType(load_type)))


def plugin_import(who: str) -> float:
    """CPU seconds to import floe-core's interface (``stock``), and the plugin on top of it (``floe``)."""
    began = time.process_time()
    from floe_core.plugins.orchestrator import OrchestratorPlugin  # noqa: TC002  # the import is what is measured

    imported = time.process_time()
    if who == "stock":
        return imported - began
    from floe_orchestrator_dagster import DagsterOrchestratorPlugin

    plugin: OrchestratorPlugin = DagsterOrchestratorPlugin()
    return time.process_time() - imported if plugin.name else 0.0


def loaded(definitions: "dg.Definitions") -> dict[str, float]:
    """Serialize the repository with jobs by reference, as the code server does for the webserver."""
    from dagster._core.remote_representation.external_data import RepositorySnap

    server: Any = import_module("dagster._grpc.server")
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    snapshot = server.serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    return {"snapshot_mb": len(snapshot) / 1e6}


def reloaded(definitions: "dg.Definitions", job_name: str | None, model: str | None) -> dict[str, float]:
    """Build the job, or its part with one model, and its plan, as a worker does before the first step."""
    from dagster._core.execution.api import create_execution_plan

    repository = definitions.get_repository_def()
    job = repository.get_job(job_name or "retail_orders")
    if model is not None:
        keys = {key for key in repository.asset_graph.executable_asset_keys if key.path[-1] == model}
        job = job.get_subset(asset_selection=keys)
    plan = create_execution_plan(job)
    return {"steps": len(plan.step_keys_to_execute)}


def stock_definitions(artifacts: Path) -> Any:  # noqa: ANN401  # a function that makes Definitions
    """Import what plain dagster-dbt needs; the function does the rest."""
    import dagster as dg
    import dagster._core.remote_representation.external_data
    from dagster_dbt import dbt_assets

    def make() -> dg.Definitions:
        @dbt_assets(manifest=artifacts.parent / "target" / "manifest.json")
        def everything() -> Iterator[Any]:
            yield from ()

        return dg.Definitions(assets=[everything], jobs=[dg.define_asset_job("build_everything")])

    return make


def one_model(artifacts: Path) -> str:
    """Return the name of the contract's first model."""
    return str(json.loads(artifacts.read_text(encoding="utf-8"))["transforms"]["models"][0]["name"])


def floe_definitions() -> Any:  # noqa: ANN401  # a function that makes Definitions
    """Import what the code location needs; the function does the rest."""
    import dagster._core.remote_representation.external_data  # noqa: F401  # as above

    from floe_orchestrator_dagster.definitions import defs

    return defs


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()

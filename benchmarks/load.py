"""Load a product: this package beside plain dagster-dbt, on the same manifest, in alternating processes.

Each measurement is a process of its own: CPU seconds from after the imports to the serialized repository snapshot
(what the webserver fetches), the size of that snapshot and the process's peak memory. Medians and their ratio are
printed as a table; see docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROUNDS = 5
TESTS_PER_MODEL = 3
COLUMNS_PER_MODEL = 15
LAYER = 50
SAMPLE = Path(__file__).parent.parent / "dbt_project"
MEASURES = {
    "cpu_seconds": "CPU after imports (s)",
    "peak_megabytes": "peak memory (MB)",
    "snapshot_kilobytes": "snapshot (kB)",
}


def main() -> None:
    """Measure the sample product and generated ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=[500], help="sizes of the generated products")
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "ARTIFACTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as directory:
        products = {"sample": copy_sample(Path(directory))}
        products |= {f"{size} models": generate_product(Path(directory), size) for size in arguments.models}
        print("| product | measure | plain dagster-dbt | floe | ratio |\n|---|---|---|---|---|")
        for name, artifacts in products.items():
            subprocess.run(
                [sys.executable, "-m", "floe_orchestrator_dagster", "prepare", artifacts], check=True, stdout=2
            )
            print_row(name, artifacts)


def print_row(name: str, artifacts: Path) -> None:
    results: dict[str, list[dict[str, float]]] = {"stock": [], "floe": []}
    for _ in range(ROUNDS):
        for who, measured in results.items():
            command = [sys.executable, __file__, "--measure", who, str(artifacts)]
            measured.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for key, title in MEASURES.items():
        stock, floe = (statistics.median(run[key] for run in results[who]) for who in ("stock", "floe"))
        print(f"| {name} | {title} | {stock:.2f} | {floe:.2f} | {floe / stock:.2f} |", flush=True)


def measure(who: str, artifacts: str) -> dict[str, float]:
    """Load once in this process."""
    import dagster as dg
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_dbt import dbt_assets

    from floe_orchestrator_dagster import code_location
    from floe_orchestrator_dagster.execution import build  # noqa: F401  # imports count as imports

    def stock_definitions() -> dg.Definitions:
        @dbt_assets(manifest=Path(artifacts).parent / "target" / "manifest.json")
        def everything() -> Iterator[Any]:
            yield from ()

        return dg.Definitions(assets=[everything], jobs=[dg.define_asset_job("build_everything")])

    started = time.process_time()
    definitions = stock_definitions() if who == "stock" else code_location.definitions_from_file(Path(artifacts))
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    snapshot = dg.serialize_value(RepositorySnap.from_def(repository))
    return {
        "cpu_seconds": time.process_time() - started,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "snapshot_kilobytes": len(snapshot) / 1024,
    }


def copy_sample(directory: Path) -> Path:
    ignored = shutil.ignore_patterns("target", "warehouse", "logs")
    return Path(shutil.copytree(SAMPLE, directory / "sample", ignore=ignored)) / "compiled_artifacts.json"


def generate_product(directory: Path, size: int) -> Path:
    """Write a dbt project of ``size`` models in layers of fifty, each reading two of the layer below."""
    project = directory / f"generated_{size}"
    models = project / "models"
    models.mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: generated\nversion: '1.0'\nprofile: generated\n", encoding="utf-8")
    properties = []
    for number in range(size):
        parents = [number - LAYER, number - LAYER + 1] if number >= LAYER else []
        reads = [f"select * from {{{{ ref('model_{parent:05}') }}}}" for parent in parents]  # noqa: S608  # names of its own
        sql = "\nunion all\n".join(reads) or "select 1 as column_0"
        (models / f"model_{number:05}.sql").write_text(sql, encoding="utf-8")
        properties.append(model_properties(number))
    (models / "models.json.yml").write_text(json.dumps({"version": 2, "models": properties}), encoding="utf-8")
    artifacts = json.loads((SAMPLE / "compiled_artifacts.json").read_text(encoding="utf-8"))
    declared = [{"name": entry["name"], "compute": "duckdb", "quality_tier": "gold"} for entry in properties]
    artifacts["transforms"] = {"models": declared, "default_compute": "duckdb"}
    path = project / "compiled_artifacts.json"
    path.write_text(json.dumps(artifacts), encoding="utf-8")
    return path


def model_properties(number: int) -> dict[str, object]:
    columns: list[dict[str, object]] = [
        {"name": f"column_{column}", "data_type": "integer", "description": f"Column {column} of model {number}."}
        for column in range(COLUMNS_PER_MODEL)
    ]
    for column in range(TESTS_PER_MODEL):
        columns[column]["data_tests"] = ["not_null"]
    return {"name": f"model_{number:05}", "description": f"Generated model {number}.", "columns": columns}


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()

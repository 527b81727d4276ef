"""Load time of ten schedules with dbt selections, for this package and plain dagster-dbt.

Each measurement is a process of its own. It loads the product without schedules and then with ten, in the same
process after the imports, and says the difference in CPU seconds up to the loaded repository and its serialized
snapshot. Plain dagster-dbt makes the same ten with ``build_schedule_from_dbt_selection``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from products import generate_product

if TYPE_CHECKING:
    import dagster as dg

ROUNDS = 3
SELECTIONS = (
    "model_00000+",
    "+model_00099",
    "2+model_00150+2",
    "@model_00050",
    "model_0001* model_0002*",
    "file:model_0003*.sql",
    "path:models,config.materialized:table",
    "model_00200+,model_00201+",
    "1+test_name:not_null,model_0004*",
    "package:generated",
)


def main() -> None:
    """Measure a generated product."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2000, help="size of the generated product")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "ARTIFACTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="floe-bench-") as directory:
        artifacts = generate_product(Path(directory), arguments.models)
        prepare = [sys.executable, "-m", "floe_orchestrator_dagster", "prepare", str(artifacts)]
        subprocess.run(prepare, check=True, stdout=2)
        print("| | without (s) | with ten schedules (s) | added (s) |\n|---|---|---|---|")
        added = {who: print_row(who, artifacts, arguments.rounds) for who in ("stock", "floe")}
        print(f"\nratio of what is added: {added['floe'] / added['stock']:.3f}")


def print_row(who: str, artifacts: Path, rounds: int) -> float:
    command = [sys.executable, __file__, "--measure", who, str(artifacts)]
    # For dagster-dbt a path is relative to the working directory, and dbt prints what matches nothing.
    printed = [
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=artifacts.parent).stdout
        for _ in range(rounds)
    ]
    runs = [json.loads(output.splitlines()[-1]) for output in printed]
    bare, scheduled = (float(statistics.median(run[key] for run in runs)) for key in ("without", "with"))
    print(f"| {who} | {bare:.2f} | {scheduled:.2f} | {scheduled - bare:.2f} |", flush=True)
    return scheduled - bare


def measure(who: str, artifacts: str) -> dict[str, float]:
    """Load without and with schedules in this process."""
    load = stock_definitions if who == "stock" else floe_definitions
    # Imports, dbt's among them, count for neither.
    load(artifacts, SELECTIONS[:1])
    return {"without": cpu_seconds(load, artifacts, ()), "with": cpu_seconds(load, artifacts, SELECTIONS)}


def cpu_seconds(load: Any, artifacts: str, selections: tuple[str, ...]) -> float:  # noqa: ANN401
    import dagster as dg
    from dagster._core.remote_representation.external_data import RepositorySnap

    started = time.process_time()
    repository = load(artifacts, selections).get_repository_def()
    repository.load_all_definitions()
    dg.serialize_value(RepositorySnap.from_def(repository))
    return time.process_time() - started


def stock_definitions(artifacts: str, selections: tuple[str, ...]) -> dg.Definitions:
    import dagster as dg
    from dagster_dbt import build_schedule_from_dbt_selection, dbt_assets

    @dbt_assets(manifest=Path(artifacts).parent / "target" / "manifest.json")
    def everything() -> Iterator[Any]:
        yield from ()

    schedules = [
        build_schedule_from_dbt_selection([everything], f"part_{row}", cron_schedule="@daily", dbt_select=selection)
        for row, selection in enumerate(selections)
    ]
    return dg.Definitions(assets=[everything], jobs=[dg.define_asset_job("whole")], schedules=schedules)


def floe_definitions(artifacts: str, selections: tuple[str, ...]) -> dg.Definitions:
    from floe_orchestrator_dagster.code_location import definitions_from_file

    path = Path(artifacts)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["plugins"]["orchestrator"]["config"] = {
        "schedules": [
            {"name": f"part_{row}", "cron": "@daily", "select": selection} for row, selection in enumerate(selections)
        ]
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return definitions_from_file(path)


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "true")
    main()

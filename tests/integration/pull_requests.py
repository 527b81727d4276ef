"""A product in production and pull requests of it, for tests of ``floe-dagster ci``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from command import invoke
from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT
from floe_orchestrator_dagster.state.changes import state_fingerprints
from floe_orchestrator_dagster.state.published import StateFacts
from floe_orchestrator_dagster.state.sets import publish_state
from processes import clean_environment
from unit.samples import contract, model, write_json

LONG = pytest.mark.skipif(
    "PULL_REQUESTS" not in os.environ, reason="all of them take half an hour; run: make test-pull-requests"
)
"""Mark of tests that `make test` leaves out."""

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from command import Answer

FILES = {
    "dbt_project.yml": '{name: shop, profile: shop, version: "1.0"}',
    "seeds/regions.csv": "id,name\n1,north\n2,south\n",
    "macros/in_cents.sql": "{% macro in_cents(column) %}{{ column }} * 100{% endmacro %}",
    "models/stg.sql": "select id, amount from {{ source('landing', 'orders') }}",
    "models/mart.sql": "{{ config(materialized='table') }} select id, amount from {{ ref('stg') }}",
    "models/cents.sql": """
        {{ config(materialized='table', schema='marts') }}
        select id, {{ in_cents('amount') }} as cents from {{ ref('mart') }}
        """,
    "models/named.sql": """
        {{ config(materialized='table') }}
        select m.id, r.name, m.amount from {{ ref('mart') }} m join {{ ref('regions') }} r on r.id = m.id
        """,
    "models/log.sql": """
        {{ config(materialized='incremental') }}
        select id, amount, '{{ "later" if is_incremental() else "first" }}' as run from {{ ref('mart') }}
        """,
    "models/schema.yml": """
        sources:
          - {name: landing, schema: landing, tables: [{name: orders}]}
        models:
          - name: mart
            columns: [{name: id, data_tests: [unique]}]
          - name: named
            columns: [{name: name, data_tests: [{accepted_values: {arguments: {values: [north, south]}}}]}]
        """,
}
NAMES = ("stg", "mart", "cents", "named", "log")


@dataclass
class Shop:
    """A product, its production, and its pull requests.

    Attributes:
        directory: Directory of everything.
        engine: ``core`` or ``v2``.
        output: The output of the dbt profile.
    """

    directory: Path
    engine: str
    output: Mapping[str, Any]

    @property
    def state(self) -> Path:
        """The directory of published states."""
        return self.directory / "state"

    def checkout(self, name: str, changes: Mapping[str, str | None] = {}) -> Path:
        """Write the project with changed files, of which None is a removed one; returns the artifacts."""
        project = self.directory / name
        shutil.rmtree(project, ignore_errors=True)
        files = {**FILES, **changes}
        write_files(project, {file: text for file, text in files.items() if text is not None})
        models = [model(one) for one in NAMES if changes.get(f"models/{one}.sql", "") is not None]
        profile = {"shop": {"target": "prod", "outputs": {"prod": self.output}}}
        content = contract(*models, name="shop", config={"dbt": engine_config(self.engine), "executor": "in_process"})
        return write_json(project / "compiled_artifacts.json", {**content, "dbt_profiles": profile})

    def build_production(self) -> None:
        """Run the product's job on production, and publish its state."""
        publish(self.checkout("production"), str(self.state))

    def ci(self, artifacts: Path, *options: str, schema: str = "pr_1") -> Answer:
        """Run ``floe-dagster ci`` for a checkout."""
        return invoke("ci", artifacts, "--state", self.state, "--schema", schema, *options)

    def report(self, artifacts: Path, *options: str, code: int = 0, schema: str = "pr_1") -> dict[str, Any]:
        """Run ``floe-dagster ci`` for a checkout; returns the report, with the nodes by name."""
        answer = self.ci(artifacts, "--json", *options, schema=schema)
        assert answer.exit_code == code, answer.stdout + answer.stderr
        report: dict[str, Any] = json.loads(answer.stdout)
        return {**report, "nodes": {node["name"]: node for node in report["nodes"]}}


@contextmanager
def started(shop: Shop, artifacts: Path, schema: str = "pr_1") -> Iterator[subprocess.Popen[bytes]]:
    """Start ``floe-dagster ci`` as a user does; it has ended at the end of the block."""
    command = [sys.executable, "-m", "floe_orchestrator_dagster", "ci", str(artifacts)]
    options = ["--state", str(shop.state), "--schema", schema]
    log = artifacts.parent / "ci.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], env=clean_environment(), stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, while a process runs."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def publish(artifacts: Path, url: str) -> None:
    """Run a product's job, and publish its state."""
    product = load_product(artifacts, manifest_source=manifest_rebuilt)
    job = definitions_from_file(artifacts).get_repository_def().get_job(product.identifier)
    assert job.execute_in_process().success
    dbt = product.dbt
    assert dbt is not None
    [results] = dbt.directory.written_target.glob("*/run_results.json")
    facts = StateFacts(
        product=product.name,
        environment=str(dbt.profile.target),
        run_id="",
        published_at=datetime.now(timezone.utc),
        engine=dbt.engine.kind,
        engine_version=dbt.engine.version,
        adapter=str(dbt.profile.adapter),
        manifest_schema="v12",
        fingerprint_format=FINGERPRINT_FORMAT,
        fingerprints=state_fingerprints(dbt),
        history="",
        position=0,
    )
    publish_state(url, facts, dbt.manifest.path.read_bytes(), results.read_bytes(), keep=3)

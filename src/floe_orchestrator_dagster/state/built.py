"""State to publish, and its creation from dbt's run_results.json."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter

from floe_orchestrator_dagster.config.models import StateConfig
from floe_orchestrator_dagster.errors import ManifestError, Problem, StateError
from floe_orchestrator_dagster.product.files import read_json
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT
from floe_orchestrator_dagster.product.prepare import is_current
from floe_orchestrator_dagster.state.changes import state_fingerprints
from floe_orchestrator_dagster.state.location import own_environment
from floe_orchestrator_dagster.state.published import StateFacts
from floe_orchestrator_dagster.state.sets import Publication, publish_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.product import DbtProject, Product

_KEPT = StateConfig.model_fields["keep"].default
_HISTORY_OF_DBT = "dbt"
_TIMESTAMP = TypeAdapter(datetime)
# Arguments of dbt with which it reads or writes other rows than usual.
_UNUSUAL = ("empty", "sample", "defer", "vars")


@dataclass(frozen=True)
class BuiltState:
    """The builds of a product's runs.

    Attributes:
        fingerprints: The fingerprint of each table and view that has the project's current code, and the versions of
            tests, by unique id.
        manifest: dbt's manifest with the tables of the runs.
        results: The last result of each table and view, as dbt's run results.
        history: As in :class:`~published.StateFacts`.
        position: As in :class:`~published.StateFacts`.
        newest_position: As for :func:`~sets.publish_state`.
    """

    fingerprints: Mapping[str, str]
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]
    history: str
    position: int
    newest_position: Callable[[], int] | None = None

    @property
    def digest(self) -> str:
        """Hash of the content, to detect changes."""
        content = [self.fingerprints, self.manifest["metadata"], self.results]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def publish_built(product: Product, built: BuiltState, run_id: str, url: str) -> Publication:
    """Publish a state.

    Raises:
        StateError: The environment is not known, or the store cannot be reached or refuses a file.
    """
    dbt, environment = dbt_of(product), own_environment(product)
    if environment is None:
        what = "the environment is not known: the target of the dbt profile is not set"
        raise StateError(product.origin, [Problem("", what, "Set FLOE_ENV to an output of the dbt profile.")])
    engine, metadata, config = dbt.installed_engine, built.manifest["metadata"], product.config.state
    facts = StateFacts(
        product=product.name,
        environment=environment,
        run_id=run_id,
        published_at=datetime.now(tz=timezone.utc),
        engine=engine.kind if engine else "",
        engine_version=str(metadata.get("dbt_version")),
        adapter=str(metadata.get("adapter_type")),
        manifest_schema=str(metadata.get("dbt_schema_version")),
        fingerprint_format=FINGERPRINT_FORMAT,
        fingerprints=built.fingerprints,
        history=built.history,
        position=built.position,
    )
    manifest, results = orjson.dumps(built.manifest, default=str), orjson.dumps(built.results, default=str)
    keep = config.keep if config else _KEPT
    return publish_state(url, facts, manifest, results, keep, built.newest_position)


def built_by_dbt(product: Product, path: Path) -> BuiltState:
    """Read what dbt has built from its ``run_results.json``, for deployments that build without Dagster.

    Args:
        product: The product.
        path: The file.

    Raises:
        ManifestError: The product's manifest is older than the files of the project.
        StateError: The file is not dbt's, or dbt has built other rows than usual.
    """
    dbt = dbt_of(product)
    if not is_current(dbt.manifest.path, dbt):
        what = "is older than files of the dbt project, or was parsed from other files"
        raise ManifestError(str(dbt.manifest.path), [Problem("", what, "Run `floe-dagster prepare`.")])
    content = read_json(path, StateError, "Run dbt again.") if path.is_file() else None
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(results, list):
        raise StateError(str(path), [Problem("", "is not a run_results.json of dbt", "Name that of `dbt build`.")])
    arguments = content.get("args") or {}
    unusual = next((name for name in _UNUSUAL if arguments.get(name)), None)
    if unusual:
        what = f"dbt ran with `{unusual}`, so that its tables are not those of production"
        raise StateError(str(path), [Problem("args", what, f"Build without `{unusual}`.")])
    built = {str(result.get("unique_id")) for result in results if result.get("status") == "success"}
    current = state_fingerprints(dbt)
    assets = {node["unique_id"] for node in dbt.manifest.asset_nodes}
    fingerprints = {one: value for one, value in current.items() if one in built or one not in assets}
    return BuiltState(fingerprints, whole_manifest(dbt), content, _HISTORY_OF_DBT, _milliseconds(content))


def _milliseconds(run_results: Mapping[str, Any]) -> int:
    """Return when dbt wrote its results, in milliseconds since 1970; 0 if it is not known."""
    with suppress(KeyError, TypeError, ValueError):
        return int(_TIMESTAMP.validate_python(run_results["metadata"]["generated_at"]).timestamp() * 1000)
    return 0


def whole_manifest(dbt: DbtProject) -> dict[str, Any]:
    """Read the whole manifest from which the product's trimmed one was made.

    Raises:
        ManifestError: It has been replaced since the product was loaded.
    """
    path = dbt.manifest.path
    content = read_json(path, ManifestError, "Run `floe-dagster prepare`.")
    loaded = dbt.manifest.content["metadata"].get("invocation_id")
    if not isinstance(content, dict) or content.get("metadata", {}).get("invocation_id") != loaded:
        what = "has been replaced since the code location was loaded"
        raise ManifestError(str(path), [Problem("", what, "Reload the code location.")])
    return content


def dbt_of(product: Product) -> DbtProject:
    """Return the product's dbt project.

    Raises:
        StateError: It has none.
    """
    if product.dbt is None:
        what, fix = "the product has no dbt project here", "Set FLOE_DBT_PROJECT_DIR to it."
        raise StateError(product.origin, [Problem("", what, fix)])
    return product.dbt

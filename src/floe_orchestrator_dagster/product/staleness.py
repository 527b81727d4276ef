"""Comparison of compiled artifacts with the ``floe.yaml`` and ``manifest.yaml`` that they were compiled from."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import Problem, SpecError
from floe_orchestrator_dagster.product.artifacts import read_artifacts_file
from floe_orchestrator_dagster.product.compilation import MANIFEST_FILE, compile_command, compile_product
from floe_orchestrator_dagster.product.spec import SPEC_FILE
from floe_orchestrator_dagster.product.yaml_file import read_yaml
from floe_orchestrator_dagster.upstream.dagster_dev import using_dagster_dev

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

    from floe_orchestrator_dagster.product.values import Product

logger = logging.getLogger(__name__)

# Parts of the contract that the two files determine. Others also depend on the version of floe-core and its plugins.
_COMPARED = (
    "dbt_profiles",
    "deployment",
    "governance",
    "ingestion_outputs",
    "observability",
    "plugins",
    "quality_config",
    "transforms",
)


@dataclass(frozen=True)
class Sources:
    """The files that a product is compiled from."""

    spec: Path
    manifest: Path

    @property
    def digest(self) -> str:
        """The ``source_hash`` that floe's compiler computes.

        Raises:
            OSError: A file cannot be read.
        """
        return f"sha256:{hashlib.sha256(self.spec.read_bytes() + self.manifest.read_bytes()).hexdigest()}"


def find_sources(directories: Iterable[Path], product_name: str) -> Sources | None:
    """Find the files of a product; None if one is missing, not valid or of another product.

    ``platform.manifest`` in floe.yaml names the manifest. One in a registry (``oci://``) cannot be compared.
    """
    spec = next((path for directory in directories if (path := directory / SPEC_FILE).is_file()), None)
    if spec is None:
        return None
    try:
        content = read_yaml(spec, SpecError)
    except SpecError:  # reported where floe.yaml is read
        return None
    if _value(content, "metadata", "name") != product_name:
        return None
    named = _value(content, "platform", "manifest")
    manifest = spec.parent / (named if isinstance(named, str) else MANIFEST_FILE)
    return Sources(spec, manifest) if manifest.is_file() else None


def stale_problem(product: Product) -> Problem | None:
    """Return a warning if the product's files have changed since they were compiled; None otherwise.

    If the content of the files differs, they are compiled again, because a comment, the schedule and the owner are not
    part of the contract.
    """
    if product.path is None:
        return None
    directories = [*([product.dbt.directory.path] if product.dbt else []), product.path.parent]
    sources = find_sources(directories, product.name)
    if sources is None:
        return None
    names = f"{sources.spec.name} or {sources.manifest.name}"
    try:
        if sources.digest == product.artifacts.metadata.source_hash:
            return None
        changed = _differences(product.artifacts, compile_product(sources.spec, sources.manifest))
    except OSError:  # the file was removed meanwhile, or is not for this user
        return None
    except SpecError as error:
        what = f"{names} has changed since the product was compiled, and no longer compiles"
        problem = error.problems[0]
        return Problem("", what, f"{problem.fault}. {problem.fix}")
    what = f"{names} has changed since the product was compiled ({', '.join(changed)})"
    fix = (
        f"Run `{_command(sources, product.path)}`{' and load the code location again' if using_dagster_dev() else ''}."
    )
    return Problem("", what, fix) if changed else None


def compile_if_changed(path: Path, project_path: Path | None) -> None:
    """Compile the product in ``path`` again if its configuration has ``auto_compile`` and its files have changed.

    Raises:
        ArtifactsError: The artifacts are missing or not readable.
        SpecError: floe's compiler refuses one of the files.
    """
    content = read_artifacts_file(path)
    if _value(content, "plugins", "orchestrator", "config", "auto_compile") is not True:
        return
    name = str(_value(content, "metadata", "product_name"))
    sources = find_sources([*([project_path] if project_path else []), path.parent], name)
    if sources is None or sources.digest == _value(content, "metadata", "source_hash"):
        return
    logger.info("%s: compiling the product, because its files have changed", path)
    compiled = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        compile_product(sources.spec, sources.manifest).to_json_file(compiled)
        compiled.replace(path)  # in one step: another process may read it
    finally:
        compiled.unlink(missing_ok=True)


def _value(content: object, *keys: str) -> object:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _differences(compiled: CompiledArtifacts, current: CompiledArtifacts) -> list[str]:
    before, now = _compared(compiled), _compared(current)
    return [name for name in before if before[name] != now[name]]


def _compared(artifacts: CompiledArtifacts) -> Mapping[str, Any]:
    content = artifacts.model_dump(mode="json", exclude_none=True)
    metadata = content["metadata"]
    identity = {f"metadata.{name}": metadata[name] for name in ("product_name", "product_version")}
    return {**identity, **{name: content.get(name) for name in _COMPARED}}


def _command(sources: Sources, artifacts: Path) -> str:
    spec, manifest, output = (
        shlex.quote(os.path.relpath(path)) for path in (sources.spec, sources.manifest, artifacts)
    )
    return compile_command(output, spec, manifest)

"""Generation of the manifest: ``dbt deps`` and ``dbt parse`` with the compiled profile, without secrets.

dbt writes to a temporary directory. Each result then replaces the old file in one step, so that a reader never finds
a partial file, and a killed parse leaves the old files in place.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.dbt_command import run_dbt
from floe_orchestrator_dagster.product.files import remove_abandoned
from floe_orchestrator_dagster.product.manifest import (
    MANIFEST_FILE,
    PARTIAL_PARSE_FILE,
    Manifest,
    find_manifest,
    find_partial_parse,
    read_product_manifest,
)
from floe_orchestrator_dagster.product.packages import package_source_paths, packages_are_installed
from floe_orchestrator_dagster.product.project import newest_change

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product.values import DbtConnection

logger = logging.getLogger(__name__)

_TARGET_FILE = "parsed_for_target.txt"
_SCRATCH_PREFIX = ".parse-"
_ABANDONED_AFTER_SECONDS = 3600


def prepare_manifest(dbt: DbtConnection) -> Manifest:
    """Install the project's missing dbt packages, parse the project and read the manifest.

    Environment variables of the profile that are not set get placeholders. dbt does not connect to the database.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    if not packages_are_installed(dbt.directory, dbt.engine):
        with tempfile.TemporaryDirectory(prefix="floe-dbt-deps-") as scratch:
            run_dbt("deps", dbt, Path(scratch))
    return parse_project(dbt)


def fresh_manifest(dbt: DbtConnection, artifacts_path: Path | None) -> Manifest:
    """Read the manifest. Generate it first when it is missing, not valid, or older than the project or its artifacts.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    path = find_manifest(dbt.directory)
    if path is not None and not _is_outdated(path, dbt, artifacts_path):
        try:
            return read_product_manifest(path)
        except ManifestError as error:
            logger.warning("%s: parsing the dbt project again", error)
    else:
        why = "outdated" if path else "missing"
        logger.debug("%s: parsing the dbt project, its manifest is %s", dbt.directory.path, why)
    return prepare_manifest(dbt)


def _is_outdated(path: Path, dbt: DbtConnection, artifacts_path: Path | None) -> bool:
    project = dbt.directory
    compiled = artifacts_path.stat().st_mtime if artifacts_path else 0.0
    changed = newest_change([*project.source_paths, *package_source_paths(project)])
    if path.stat().st_mtime < max(changed, compiled):
        return True
    parsed_for = path.with_name(_TARGET_FILE)
    return parsed_for.is_file() and parsed_for.read_text(encoding="utf-8") != _parsed_for(dbt)


def _parsed_for(dbt: DbtConnection) -> str:
    """Return profile and target, which determine the schemas in the manifest, and the engine that parses.

    ``FLOE_ENV`` can change the target. The engines and their versions write different manifests.
    """
    return f"{dbt.profile.name} {dbt.profile.target} {dbt.engine}\n"


def check_parse(dbt: DbtConnection) -> None:
    """Parse the project without keeping the result.

    A project whose packages are not installed is not parsed: dbt v2 would install them.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
        EngineError: The configured dbt engine cannot be used.
    """
    if packages_are_installed(dbt.directory, dbt.engine):
        with tempfile.TemporaryDirectory(prefix="floe-dbt-parse-") as scratch:
            run_dbt("parse", dbt, Path(scratch))


def parse_project(dbt: DbtConnection) -> Manifest:
    """Parse the project with its installed packages and read the manifest.

    Raises:
        ManifestError: dbt failed, and the message has dbt's output; or the target directory cannot be created.
    """
    project = dbt.directory
    target = project.written_target
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "Set DBT_TARGET_PATH or FLOE_STATE_DIR to a directory that this user can create and write."
        raise ManifestError(str(target), [Problem("", f"cannot be created ({error.strerror})", fix)]) from None
    started = time.time()
    remove_abandoned(target, _SCRATCH_PREFIX, _ABANDONED_AFTER_SECONDS)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=target) as name:
        scratch = Path(name)
        known = find_partial_parse(project) if dbt.engine.kind == "core" else None
        if known:
            shutil.copyfile(known, scratch / known.name)
        run_dbt("parse", dbt, scratch)
        # dbt may have missed a change during the parse. Such a change must be newer than the manifest.
        os.utime(scratch / MANIFEST_FILE, (started, started))
        (scratch / _TARGET_FILE).write_text(_parsed_for(dbt), encoding="utf-8")
        for file in (PARTIAL_PARSE_FILE, _TARGET_FILE, MANIFEST_FILE):
            if (scratch / file).is_file():
                (scratch / file).replace(target / file)
    return read_product_manifest(target / MANIFEST_FILE)

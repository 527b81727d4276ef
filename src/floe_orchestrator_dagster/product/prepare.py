"""Generation of the manifest: ``dbt deps`` and ``dbt parse`` with the compiled profile, without secrets.

dbt writes to a temporary directory. Each result then replaces the old file in one step, so that a reader never finds
a partial file, and a killed parse leaves the old files in place.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.files import remove_abandoned
from floe_orchestrator_dagster.product.manifest import (
    MANIFEST_FILE,
    PARTIAL_PARSE_FILE,
    PREPARE_COMMAND,
    Manifest,
    find_manifest,
    find_partial_parse,
    read_product_manifest,
)
from floe_orchestrator_dagster.product.packages import package_source_paths, packages_are_installed
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.profiles import require_adapter
from floe_orchestrator_dagster.product.project import dbt_executable, newest_change
from floe_orchestrator_dagster.redaction import redact_urls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.project import ProjectDirectory

logger = logging.getLogger(__name__)

_TARGET_FILE = "parsed_for_target.txt"
_SCRATCH_PREFIX = ".parse-"
_ABANDONED_AFTER_SECONDS = 3600
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Output for an unreachable package hub, archive or repository; dbt adds a traceback of hundreds of lines.
_UNREACHABLE = re.compile(r"(?<=External connection exception occurred: ).+|fatal: unable to access .+|ssh: .+")
_TIMESTAMP = re.compile(r"^\d\d:\d\d:\d\d\s+", re.MULTILINE)


def prepare_manifest(project: ProjectDirectory, profile: Profile) -> Manifest:
    """Install the project's missing dbt packages, parse the project and read the manifest.

    Environment variables of the profile that are not set get placeholders. dbt does not connect to the database.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
    """
    if not packages_are_installed(project):
        _run_dbt(["deps"], project, profile, project.written_target)
    return parse_project(project, profile)


def fresh_manifest(project: ProjectDirectory, profile: Profile, artifacts_path: Path | None) -> Manifest:
    """Read the manifest. Generate it first when it is missing, not valid, or older than the project or its artifacts.

    Raises:
        ManifestError: dbt failed. The message has dbt's output.
    """
    path = find_manifest(project)
    if path is not None and not _is_outdated(path, project, profile, artifacts_path):
        try:
            return read_product_manifest(path)
        except ManifestError as error:
            logger.warning("%s: parsing the dbt project again", error)
    else:
        logger.debug("%s: parsing the dbt project, its manifest is %s", project.path, "outdated" if path else "missing")
    return prepare_manifest(project, profile)


def _is_outdated(path: Path, project: ProjectDirectory, profile: Profile, artifacts_path: Path | None) -> bool:
    compiled = artifacts_path.stat().st_mtime if artifacts_path else 0.0
    changed = newest_change([*project.source_paths, *package_source_paths(project)])
    if path.stat().st_mtime < max(changed, compiled):
        return True
    parsed_for = path.with_name(_TARGET_FILE)
    return parsed_for.is_file() and parsed_for.read_text(encoding="utf-8") != _target_in_use(profile)


def _target_in_use(profile: Profile) -> str:
    """Return profile and target, which determine the schemas in the manifest. ``FLOE_ENV`` can change the target."""
    return f"{profile.name} {profile.target}\n"


def parse_project(project: ProjectDirectory, profile: Profile) -> Manifest:
    """Parse the project with its installed packages and read the manifest.

    Raises:
        ManifestError: dbt failed, and the message has dbt's output; or the target directory cannot be created.
    """
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
        known = find_partial_parse(project)
        if known:
            shutil.copyfile(known, scratch / known.name)
        _run_dbt(["parse"], project, profile, scratch)
        # dbt may have missed a change during the parse. Such a change must be newer than the manifest.
        os.utime(scratch / MANIFEST_FILE, (started, started))
        (scratch / _TARGET_FILE).write_text(_target_in_use(profile), encoding="utf-8")
        for file in (PARTIAL_PARSE_FILE, _TARGET_FILE, MANIFEST_FILE):
            if (scratch / file).is_file():
                (scratch / file).replace(target / file)
    return read_product_manifest(target / MANIFEST_FILE)


def _run_dbt(command: Sequence[str], project: ProjectDirectory, profile: Profile, target: Path) -> None:
    require_adapter(profile)
    missing = profile.missing_variables
    if missing:
        names = ", ".join(variable.name for variable in missing)
        logger.warning("dbt %s uses placeholders for variables that are not set: %s", " ".join(command), names)
    with written_profile(profile) as profiles_dir:
        arguments = [
            dbt_executable(),
            "--quiet",
            "--no-use-colors",
            "--no-version-check",
            "--write-json",
            *command,
            "--project-dir",
            str(project.path),
            "--profiles-dir",
            str(profiles_dir),
            "--profile",
            profile.name,
            *(["--target", profile.target] if profile.target else []),
        ]
        environment = {
            **{variable.name: variable.placeholder for variable in missing},
            **os.environ,
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        result = subprocess.run(
            arguments,
            env=environment,
            cwd=project.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    if result.returncode:
        printed = _TIMESTAMP.sub("", _ANSI.sub("", result.stdout)).strip() or "dbt printed nothing"
        raise ManifestError(str(project.path), [_problem(" ".join(command), result.returncode, printed)])


def _problem(command: str, exit_code: int, printed: str) -> Problem:
    unreachable = _UNREACHABLE.search(printed)
    if unreachable and command == "deps":
        what = f"dbt deps cannot download the packages: {redact_urls(unreachable[0])}"
        fix = f"Check the network and HTTPS_PROXY. `{PREPARE_COMMAND} --no-deps` uses the packages that are installed."
        return Problem("", what, fix)
    what = f"dbt {command} failed with exit code {exit_code}:\n{_indent(printed)}"
    return Problem("", what, f"Correct the project and run `{PREPARE_COMMAND}` again.")


def _indent(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())

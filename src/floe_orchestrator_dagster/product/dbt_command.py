"""dbt's commands ``deps`` and ``parse``, run with the compiled profile, and their errors.

Neither command connects to a database, so that environment variables of the profile that are not set get placeholders.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.adapters import require_adapter
from floe_orchestrator_dagster.product.engines import run_captured
from floe_orchestrator_dagster.product.manifest import PREPARE_COMMAND
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.product.v2_messages import V2_OUTPUT, LogMessage, read_v2_log, v2_problems
from floe_orchestrator_dagster.redaction import Redactor, mask, redact_urls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from floe_orchestrator_dagster.product.values import DbtConnection

logger = logging.getLogger(__name__)

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Output for an unreachable package hub, archive or repository; dbt adds a traceback of hundreds of lines.
_UNREACHABLE = re.compile(
    r"(?<=External connection exception occurred: ).+|fatal: unable to access .+|ssh: .+|error sending request .+"
    r"|Failed to get index from .+"
)
# dbt-core 1.12 also writes the level of an error.
_PREFIX = re.compile(r"^\d\d:\d\d:\d\d\s+(?:\[ERROR\]: )?", re.MULTILINE)


def run_dbt(command: str, dbt: DbtConnection, target: Path) -> None:
    """Run ``dbt deps`` or ``dbt parse``.

    Args:
        command: ``deps`` or ``parse``.
        dbt: The project, its profile and the engine.
        target: Directory for dbt's artifacts and logs.

    Raises:
        EngineError: The configured dbt engine cannot be used.
        ProfileError: The engine lacks the adapter.
        ManifestError: dbt failed. The message has dbt's output.
    """
    require_adapter(dbt.profile, dbt.engine)
    missing = dbt.profile.missing_variables
    if missing:
        names = ", ".join(variable.name for variable in missing)
        logger.warning("dbt %s uses placeholders for variables that are not set: %s", command, names)
    with written_profile(dbt.profile) as profiles_dir:
        words = [*_words(command, dbt), "--profiles-dir", str(profiles_dir)]
        result = run_captured(words, _environment(dbt, target), dbt.directory.path)
    if result.returncode:
        log = _read_log(result.stdout, dbt)
        raise ManifestError(str(dbt.directory.path), [*_problems(command, result.returncode, log, dbt)])


def _words(command: str, dbt: DbtConnection) -> list[str]:
    """Return the command line. dbt-core 1.x accepts global flags only before the command; dbt v2 lacks some."""
    engine, profile = dbt.engine, dbt.profile
    core = ("--quiet", "--no-use-colors", "--no-version-check", "--write-json")
    return [
        *engine.command,
        *(core if engine.kind == "core" else ()),
        command,
        *(V2_OUTPUT if engine.kind == "v2" else ()),
        *("--project-dir", str(dbt.directory.path)),
        *("--profile", profile.name),
        *(("--target", profile.target) if profile.target else ()),
    ]


def _environment(dbt: DbtConnection, target: Path) -> dict[str, str]:
    missing = dbt.profile.missing_variables
    return {
        **{one.name: one.v2_placeholder if dbt.is_on_v2 else one.placeholder for one in missing},
        **os.environ,
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
    }


def _read_log(printed: str, dbt: DbtConnection) -> list[LogMessage]:
    """Read what dbt has printed, and mask secrets, as dbt v2 does not. JSON escapes quotes and line ends in secrets."""
    secrets = dbt.profile.masked_values
    redactor = Redactor(secrets)
    log = read_v2_log(printed) if dbt.engine.kind == "v2" else [LogMessage("", printed)]
    return [replace(message, text=redactor.mask(mask(message.text, secrets))) for message in log]


def _problems(command: str, exit_code: int, log: list[LogMessage], dbt: DbtConnection) -> Iterator[Problem]:
    printed = "\n".join(message.text for message in log)
    again = f"Correct the project and run `{PREPARE_COMMAND}` again."
    unreachable = _UNREACHABLE.search(printed)
    if unreachable and (command == "deps" or dbt.engine.kind == "v2"):  # dbt v2 installs packages when it parses too
        what = f"dbt deps cannot download the packages: {redact_urls(unreachable[0])}"
        fix = f"Check the network and HTTPS_PROXY. `{PREPARE_COMMAND} --no-deps` uses the packages that are installed."
        yield Problem("", what, fix)
        return
    found = v2_problems(log, dbt.directory.path, again)
    if found:
        yield from found
        return
    shown = _PREFIX.sub("", _ANSI.sub("", printed)).strip() or "dbt printed nothing"
    yield Problem("", f"dbt {command} failed with exit code {exit_code}:\n{_indent(shown)}", again)


def _indent(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())

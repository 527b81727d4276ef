"""dbt's commands ``deps`` and ``parse``, run with the compiled profile, and their errors.

Neither command connects to a database. Variables of the profile that are not set in the environment get placeholders.

Log format: https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.config.models import config_path
from floe_orchestrator_dagster.errors import ManifestError, Problem
from floe_orchestrator_dagster.product.adapters import require_adapter
from floe_orchestrator_dagster.product.engines import run_captured
from floe_orchestrator_dagster.product.profile_file import written_profile
from floe_orchestrator_dagster.redaction import Redactor, mask, redact_urls
from floe_orchestrator_dagster.upstream.dagster_dev import using_dagster_dev

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from floe_orchestrator_dagster.product.values import DbtConnection


logger = logging.getLogger(__name__)

# Arguments of dbt v2 for a log that `read_v2_log` reads.
V2_OUTPUT = ("--log-format", "json", "--log-level-file", "off")
_MOST_SHOWN = 50
_AGAIN = "Correct the project and run this command again."
# `[error] [UnusedConfigKey (dbt1060)]: message`, then `  --> file:line:column`, then a stack trace.
_ERROR = re.compile(r"^\[error\] (?:\[\w+ \((?P<code>dbt\d+)\)\]: )?(?P<message>.*)", re.DOTALL)
_PLACE = re.compile(r"^ *--> (?P<place>.+)$", re.MULTILINE)
_TRACE = re.compile(r"^ +0: .*", re.MULTILINE | re.DOTALL)
# Deprecated forms that dbt-core 1.x accepts: unknown keys beside `config`, arguments of tests outside `arguments`.
_UNKNOWN_KEY, _WRONG_TYPE = "dbt1060", "dbt1013"
_DEPRECATED = frozenset({_UNKNOWN_KEY, "dbt1159"})
_WITHOUT_PLUS = (
    "Write the key without the plus, under `config:` of its model, column or test. Keys with a plus are for "
    "dbt_project.yml."
)
_WITH_PLUS = "Write a setting of dbt with a plus, such as `+materialized`, and keys of your own under `+meta:`."
_AS_LIST = (
    "List the resources, each with `- name:`, and write their settings under `config:` without a plus. Settings of a "
    "whole directory, such as `+materialized`, are for dbt_project.yml."
)
# Fixes for errors that dbt-autofix does not correct, each with dbt's code and a part of the message.
_FIXES = (
    (_UNKNOWN_KEY, re.compile(r'unexpected key `"\+'), _WITHOUT_PLUS),
    (_WRONG_TYPE, re.compile(r"YAML error: \w+: invalid type: map, expected a sequence"), _AS_LIST),
    (_WRONG_TYPE, re.compile(r"expected struct Project"), _WITH_PLUS),
)
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
    """Read dbt's output and mask secrets, which dbt v2 does not do. JSON escapes quotes and line ends in secrets."""
    secrets = dbt.profile.masked_values
    redactor = Redactor(secrets)
    log = read_v2_log(printed) if dbt.engine.kind == "v2" else [LogMessage("", printed)]
    return [replace(message, text=redactor.mask(mask(message.text, secrets))) for message in log]


def _problems(command: str, exit_code: int, log: list[LogMessage], dbt: DbtConnection) -> Iterator[Problem]:
    printed = "\n".join(message.text for message in log)
    again = "Correct the project and load the code location again." if using_dagster_dev() else _AGAIN
    unreachable = _UNREACHABLE.search(printed)
    if unreachable and (command == "deps" or dbt.engine.kind == "v2"):  # dbt v2 installs packages when it parses too
        what = f"dbt deps cannot download the packages: {redact_urls(unreachable[0])}"
        installed = "With `--no-deps`, `init` and `prepare` use the packages that are installed."
        fix = f"Check the network and HTTPS_PROXY. {installed}"
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


@dataclass(frozen=True)
class LogMessage:
    """A message of dbt; its level is empty for text that is not a log in JSON."""

    level: str
    text: str


def read_v2_log(printed: str) -> list[LogMessage]:
    """Read a log of dbt v2, with one JSON object per line. A native library may print other lines."""
    return [_message(line) for line in printed.splitlines()]


def v2_problems(log: Iterable[LogMessage], project: Path, fix: str) -> list[Problem]:
    """Read the errors in a log of dbt v2.

    Args:
        log: The messages.
        project: Directory of the project.
        fix: The fix for errors without a known one.

    Returns:
        The distinct errors by file and line, at most fifty. Each has its file and line as its place, if the log has
        them.
    """
    autofix = (
        f"Run `dbt-autofix deprecations --path {project}` (`pip install dbt-autofix`), which rewrites the project for "
        f"dbt v2, or set {config_path('dbt', 'engine')} to `core`."
    )
    problems = [
        Problem(where, what, _known_fix(code, what) or (autofix if code in _DEPRECATED else fix))
        for where, what, code in _errors(log)
    ]
    # dbt v2 reads files in parallel, so that their order differs.
    distinct = sorted(dict.fromkeys(problems), key=_by_place)
    if len(distinct) > _MOST_SHOWN:
        rest = Problem("", f"and {len(distinct) - _MOST_SHOWN} more errors", fix)
        return [*distinct[:_MOST_SHOWN], rest]
    return distinct


def _known_fix(code: str, what: str) -> str | None:
    return next((fix for known, pattern, fix in _FIXES if known == code and pattern.search(what)), None)


def _by_place(problem: Problem) -> tuple[str, list[int], str]:
    file, *position = problem.where.split(":")
    return file, [int(part) for part in position if part.isdecimal()], problem.what


def _errors(log: Iterable[LogMessage]) -> Iterator[tuple[str, str, str]]:
    for message in log:
        found = _ERROR.match(_TRACE.sub("", message.text)) if message.level == "error" else None
        if found is None:
            continue
        place = _PLACE.search(found["message"])
        what = " ".join(_PLACE.sub("", found["message"]).split()).removesuffix(".")
        code = found["code"] or ""
        yield (place["place"] if place else ""), f"{what} ({code})" if code else what, code


def _message(line: str) -> LogMessage:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return LogMessage("", line)
    info = event.get("info") if isinstance(event, dict) else None
    return LogMessage(str(info.get("level")), str(info.get("msg"))) if isinstance(info, dict) else LogMessage("", line)

"""The log of dbt v2, and its errors as problems: one for each place in a file, with the fix.

Log format: https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from floe_orchestrator_dagster.config.models import config_path
from floe_orchestrator_dagster.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Arguments of dbt v2 for a log that :func:`read_v2_log` reads.
V2_OUTPUT = ("--log-format", "json", "--log-level-file", "off")
_MOST_SHOWN = 50
# `[error] [UnusedConfigKey (dbt1060)]: message`, then `  --> file:line:column`, then a stack trace.
_ERROR = re.compile(r"^\[error\] (?:\[\w+ \((?P<code>dbt\d+)\)\]: )?(?P<message>.*)", re.DOTALL)
_PLACE = re.compile(r"^ *--> (?P<place>.+)$", re.MULTILINE)
_TRACE = re.compile(r"^ +0: .*", re.MULTILINE | re.DOTALL)
# Deprecated forms that dbt-core 1.x takes: unknown keys beside `config`, arguments of tests outside `arguments`.
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
# Errors that dbt-autofix does not correct.
_FIXES = (
    (_UNKNOWN_KEY, re.compile(r'unexpected key `"\+'), _WITHOUT_PLUS),
    (_WRONG_TYPE, re.compile(r"YAML error: \w+: invalid type: map, expected a sequence"), _AS_LIST),
    (_WRONG_TYPE, re.compile(r"expected struct Project"), _WITH_PLUS),
)


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

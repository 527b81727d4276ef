"""Reasons why a variable of ``--env`` is refused: invalid names, names that the chart sets, and secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from floe_orchestrator_dagster.redaction import is_secret_name, redact, redact_value

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables that other options set, with the option.
_SET_BY_OPTIONS = {
    "FLOE_ARTIFACTS_PATH": "--artifacts-path",
    "FLOE_ENV": "--environment",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "--otlp-endpoint",
}
_OF_DIRECTORIES = {"DAGSTER_HOME", "FLOE_STATE_DIR"}
_OF_DAGSTER = re.compile(r"DAGSTER_(?:CLI_API_GRPC_\w+|CURRENT_IMAGE|PG_PASSWORD|RUN_JOB_NAME)")
# Names that speak of a secret without having it as their value.
_ABOUT_A_SECRET = re.compile(
    r"(?:file|path|dir|_(?:url|uri|endpoint|host|port|name|type|provider|issuer|audience|scope|backend|region|version"
    r"|enabled|header|ttl|lifetime|expiry|timeout|seconds|minutes|count|limit|length))$",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"(?:^|_)(?:max|min|num)_|_per_[a-z]+$", re.IGNORECASE)
_SWITCH = re.compile(r"true|false", re.IGNORECASE)


@dataclass(frozen=True)
class Refusal:
    """Why a variable is refused, and the fix."""

    what: str
    fix: str


def refusal(name: str, value: str) -> Refusal | None:
    """Return why a variable is refused; None if it is accepted."""
    return _refusal_of_name(name) or _refusal_of_secret(name, value)


def _refusal_of_name(name: str) -> Refusal | None:
    if not _NAME.fullmatch(name):
        return Refusal("is not a valid name of a variable", "Write it like `DBT_THREADS=8`.")
    if name in _SET_BY_OPTIONS:
        return Refusal("has a separate option", f"Use {_SET_BY_OPTIONS[name]}.")
    if name in _OF_DIRECTORIES:
        return Refusal("is set to a directory of the pod", "Remove it.")
    if _OF_DAGSTER.fullmatch(name):
        return Refusal("is set by the chart or by Dagster", "Remove it.")
    return None


def _refusal_of_secret(name: str, value: str) -> Refusal | None:
    """Return why a value is refused that is stored in plain text, in the chart's release and in every pod."""
    fix = "Put it into a Secret, and name that with --env-secret."
    if redact_value(value) != value or redact(value) != value:
        return Refusal("has a value that looks like a secret", fix)
    if _names_a_secret(name, value):
        otherwise = "If it is none, put it into a ConfigMap, and name that with --env-configmap."
        return Refusal("looks like the name of a secret", f"{fix} {otherwise}")
    return None


def _names_a_secret(name: str, value: str) -> bool:
    if not value or not is_secret_name(name) or _ABOUT_A_SECRET.search(name) or _SWITCH.fullmatch(value):
        return False
    is_path = name.lower().endswith("credentials") and value.startswith("/")
    return not is_path and not (_AMOUNT.search(name) and value.isdecimal())

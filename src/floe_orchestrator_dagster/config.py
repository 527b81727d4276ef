"""The orchestrator's configuration: ``plugins.orchestrator.config`` of the artifacts, typed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from floe_orchestrator_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

CONFIG_PATH = "plugins.orchestrator.config"

KeyPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class DagsterConfig(BaseModel):
    """What a platform team can set for Dagster in floe's manifest.yaml.

    Attributes:
        default_schedule: Cron of the product's schedule when floe.yaml declares none.
        timezone: IANA timezone of ``default_schedule``.
        key_prefix: Prefix of every asset key, for code locations that share model names.
        webserver_url: Where the Dagster webserver answers, for the connection check.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    default_schedule: str | None = Field(default=None, min_length=1, examples=["0 6 * * *"])
    timezone: str = Field(default="UTC", examples=["Europe/Berlin"])
    key_prefix: list[KeyPart] = Field(default_factory=list, examples=[["retail"]])
    webserver_url: str | None = Field(default=None, examples=["http://dagster-webserver:3000"])


def read_config(values: Mapping[str, object] | None, origin: str) -> DagsterConfig:
    """Validate the configuration found in the artifacts; ``None`` means all defaults.

    Raises:
        ConfigError: Unknown keys or wrong types, all of them at once.
    """
    try:
        return DagsterConfig.model_validate(dict(values or {}))
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        raise ConfigError(origin, problems) from None


def _problem(details: ErrorDetails) -> Problem:
    where = ".".join([CONFIG_PATH, *(str(part) for part in details["loc"])])
    if details["type"] != "extra_forbidden":
        found = f", not {type(details['input']).__name__}" if details["type"].endswith("_type") else ""
        return Problem(where, f"{details['msg']}{found}", "Correct it in manifest.yaml.")
    known = sorted(DagsterConfig.model_fields)
    close = get_close_matches(str(details["loc"][0]), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return Problem(where, "unknown key", f"{hint}Known keys: {', '.join(known)}. Correct it in manifest.yaml.")

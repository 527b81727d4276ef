"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CONFIG_PATH = "plugins.orchestrator.config"

KeyPart = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=128)]
Text = Annotated[str, Field(min_length=1)]
Word = Annotated[str, Field(min_length=1, pattern=r"^\S*$")]
WebPage = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/]\S*$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]


class Section(BaseModel):
    """A part of the configuration: frozen, strict, without unknown keys; docstrings describe its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def config_path(*location: int | str) -> str:
    """Name a place in the configuration, such as ``plugins.orchestrator.config.jobs[0].name``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{CONFIG_PATH}{path}"

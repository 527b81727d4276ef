"""What the connection check sends to the webserver."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from floe_orchestrator_dagster.config.section import Section

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class HeaderConfig(Section):
    """A header whose value is a secret, and therefore in the environment."""

    name: HeaderName
    """Name of the header, such as ``Authorization``."""
    variable: VariableName
    """Environment variable that holds its value, such as ``DAGSTER_AUTHORIZATION``."""

"""Settings of a dbt output, rendered one at a time on access, so that passwords are never rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.product.templates import rendered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Settings:
    """Settings of an output or an attached database.

    Attributes:
        content: The settings in ``profiles.yml``; values may be templates.
        environment: The environment variables that ``env_var()`` reads.
    """

    content: Mapping[str, Any]
    environment: Mapping[str, str]

    def text(self, *names: str) -> str:
        """Render the first of these settings that is set; empty when none is set or it cannot be rendered."""
        value = next((self.content[name] for name in names if self.content.get(name) not in {None, ""}), "")
        text = str(value).strip()
        return rendered(text, self.environment) or ""

    def host(self, *names: str) -> str:
        """Render a host name, without a scheme, user or path around it.

        For a directory of Unix sockets, the host is ``localhost``.
        """
        text = self.text(*names)
        text = (text.partition("://")[2] or text).rpartition("@")[2].partition("?")[0]
        return text.split("/", maxsplit=1)[0] or ("localhost" if text else "")

    def port(self, default: int) -> str:
        """Render the port, with the adapter's ``default``."""
        return self.text("port") or str(default)

    def sequence(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the mappings in a list; empty when the setting is missing or not a list."""
        value = self.content.get(name)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

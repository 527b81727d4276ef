"""Texts of others, without the secrets that may be in them."""

from __future__ import annotations

import re

# floe-core's rules take the word after "Authorization:", which is the scheme.
_LOGIN = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace logins, passwords and tokens as floe-core does for its spans; long texts are cut."""
    from floe_core.telemetry.sanitization import sanitize_error_message

    return sanitize_error_message(_LOGIN.sub(r"\1 <REDACTED>", text))

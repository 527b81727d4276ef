"""What of a profile must not be printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from floe_orchestrator_dagster.product.templates import read_from_environment, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECRET_KEY = re.compile(r"pass|secret|token|credential|key(?!word)|keyfile", re.IGNORECASE)
# Keys of connection strings, where most keys are told in full and those that end in "key" often are no secrets.
_SECRET_PARAMETER = re.compile(
    r"pass|pwd|secret|token|credential|api_?key|account_?key|access_?key|^sig", re.IGNORECASE
)
# user:password@ of a URL. A password may hold what should have been encoded: it goes up to the last @ of the authority.
_LOGIN = re.compile(r"\b[A-Za-z][\w+.-]*://[^\s:@/]*:(?P<secret>[^\s/]+)@")
# key=value of a DSN, an ODBC or JDBC string, or the query of a URL; the value may be quoted, or braced (ODBC).
_PARAMETER = re.compile(r"(?P<key>[\w.-]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"|\{([^}]*)\}|([^\s;&'\"]+))")
_SHORTEST_SECRET = 4


def secrets_of(outputs: object) -> tuple[str, ...]:
    """Find what must not be printed of a profile's outputs, as it stands there and as it stands in a URL.

    That is what keys such as ``password`` hold, what the environment gives to them, and logins and such keys inside of
    connection strings. The longest come first: one that another begins with would leave the rest of that to be seen.
    """
    found = {form for secret in _secrets(outputs) for form in _forms(secret) if len(form) >= _SHORTEST_SECRET}
    return tuple(sorted(found, key=lambda secret: (-len(secret), secret)))


def _forms(secret: str) -> Iterator[str]:
    """Write a secret as it may be met: plain, line by line as output is masked, or encoded for a URL."""
    yield from secret.splitlines()
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield unquote(secret)


def _secrets(content: object, *, is_secret: bool = False) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _secrets(value, is_secret=bool(_SECRET_KEY.search(str(key))))
    elif isinstance(content, list):
        for value in content:
            yield from _secrets(value, is_secret=is_secret)
    elif is_secret and isinstance(content, int) and not isinstance(content, bool):
        yield str(content)
    elif isinstance(content, str):
        if is_secret and "{{" not in content:
            yield content
        yield from (text for name, text in read_from_environment(content) if is_secret or _SECRET_KEY.search(name))
        yield from _inside(rendered(content) or content)


def _inside(text: str) -> Iterator[str]:
    """Find the secrets inside of a connection string."""
    for login in _LOGIN.finditer(text):
        yield login["secret"]
    for parameter in _PARAMETER.finditer(text):
        if _SECRET_PARAMETER.search(parameter["key"]):
            value = next((group for group in parameter.groups()[1:] if group is not None), "")
            yield value
            yield re.sub(r"\\(.)", r"\1", value)  # libpq escapes quotes so

"""Redaction of credentials: known values, and what looks like a credential in texts of others.

:func:`redact` is for texts that others wrote (answers of servers, errors of drivers), :func:`redact_urls` for messages
of this package that repeat a configured value, and :class:`Redactor` for texts that may repeat known credentials.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MASK = "***"
# Shorter ones would take ordinary words out of a text.
_SHORTEST_SECRET = 4

# Keys of settings whose value is a secret.
_SECRET_KEY = re.compile(r"pass|secret|token|credential|key(?!word)|keyfile", re.IGNORECASE)
# Keys of connection strings, where most keys are spelled out and those that end in "key" often are no secrets.
_SECRET_PARAMETER = re.compile(
    r"pass|pwd|secret|token|credential|api_?key|account_?key|access_?key|^sig", re.IGNORECASE
)
# user:password@ of a URL. A password may hold what should have been encoded: it goes up to the last @ of the authority.
_LOGIN = re.compile(r"\b[A-Za-z][\w+.-]*://[^\s:@/]*:(?P<secret>[^\s/]+)@")
# key=value of a DSN, an ODBC or JDBC string, or the query of a URL; the value may be quoted, or braced (ODBC).
_PARAMETER = re.compile(r"(?P<key>[\w.-]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"|\{([^}]*)\}|([^\s;&'\"]+))")

# In texts. Repetitions are bounded where they would make the search quadratic.
_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|credential|signature"
    r"|(?:api|access|account|private|shared)[-_ ]?key"
)
# With one slash in paths: `https://…` where a file was expected.
_LOGIN_IN_TEXT = re.compile(r"(:/{1,2})[^\s/@:]{0,256}:\S{0,4096}@")
# Not of storage such as abfss://container@account, where no credential is before the @.
_TOKEN_IN_URL = re.compile(r"(?:(?<=http)|(?<=https)|(?<=git)|(?<=ftp))(:/{1,2})[^\s/@:]{1,4096}@", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(rf"([?&][\w.-]{{0,40}}(?:{_NAMES}|sig)[\w.-]{{0,40}}=)[^\s&#'\"]+", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.{0,16384}?(?:-----END [A-Z ]{0,30}-----|\Z)", re.DOTALL
)
_AUTHORIZATION = re.compile(
    r"(authorization\\?[\"']?\s{0,5}[:=]\s{0,5}\\?[\"']?)(?:[a-z]+\s+)?[^\s\"',;\\]+|\b(bearer|basic)\s+[\w.~+/=-]+",
    re.IGNORECASE,
)
_COOKIE = re.compile(r"(cookie\\?[\"']?\s{0,5}[:=]\s{0,5}\\?[\"']?)[^\r\n\"']+", re.IGNORECASE)
# Not PASS=54, which ends dbt's summaries.
_NAMED = re.compile(
    rf"((?:(?i:{_NAMES})[\w-]{{0,20}}|(?<![A-Za-z])(?:pass|sig)\b|(?<=_)PASS\b)\\?[\"']?\s{{0,5}}[=:]\s{{0,5}})"
    r"(\"[^\"]*\"|'[^']*'|\S+)"
)
_JSON_WEB_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
_LOGIN_OF_A_VALUE = re.compile(r"^([A-Za-z][\w+.-]*://)?[^\s@]*:.*@(?!(?:sha\d+|md5):)")


def redact(text: str) -> str:
    """Mask what looks like a credential: logins in URLs, ``key=value`` of telling keys, tokens, private keys."""
    text = redact_urls(_PRIVATE_KEY.sub(MASK, text))
    text = _AUTHORIZATION.sub(lambda found: f"{found[1] or f'{found[2]} '}{MASK}", text)
    text = _NAMED.sub(rf"\1{MASK}", _COOKIE.sub(rf"\1{MASK}", text))
    return _JSON_WEB_TOKEN.sub(MASK, text)


def redact_urls(text: str) -> str:
    """Mask the logins and tokens of the URLs in a text."""
    if ":/" not in text:
        return text
    text = _TOKEN_IN_URL.sub(rf"\1{MASK}@", _LOGIN_IN_TEXT.sub(rf"\1{MASK}@", text))
    return _QUERY_IN_TEXT.sub(rf"\1{MASK}", text)


def redact_value(value: str) -> str:
    """Mask the login in one configured value, which may be a URL without its scheme, such as ``user:password@host``."""
    return redact_urls(_LOGIN_OF_A_VALUE.sub(rf"\g<1>{MASK}@", value))


class Redactor:
    """Masks credentials that are known, however they are written, and what else looks like one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Mask ``secrets``; empty and very short ones are left out."""
        forms = {form for secret in secrets for form in (*_forms(secret), *_escaped(secret))}
        self._forms = _longest_first(forms)

    def redact(self, text: str) -> str:
        """Return a text without credentials."""
        return redact(mask(text, self._forms))


def mask(text: str, secrets: Iterable[str]) -> str:
    """Mask each of the secrets as it is."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def secrets_of(
    settings: object,
    *,
    variables: Callable[[str], Iterable[tuple[str, str]]] = lambda _text: (),
    render: Callable[[str], str | None] = str,
) -> tuple[str, ...]:
    """Find the credentials in settings, as they stand there and as they stand in a URL, the longest first.

    These are the values of keys such as ``password``, what the environment gives to them, and logins and such keys
    inside of connection strings. The longest come first: one that another begins with would leave the rest to be seen.

    Args:
        settings: Mappings, lists and texts.
        variables: Returns the names and values of the environment variables that a text reads.
        render: Returns a text with them filled in; None where that cannot be done.
    """
    found = (form for secret in _secrets(settings, variables, render) for form in _forms(secret))
    return _longest_first(found)


def secrets_in_url(url: str) -> Iterator[str]:
    """Find the credentials in a URL: password or token before the host, values of its query, its fragment."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    if login:
        yield from (password or user, login, unquote(login), b64encode(unquote(login).encode()).decode("ascii"))
    yield from (value for _, value in parse_qsl(parts.query))
    yield from (part.partition("=")[2] or part for part in parts.query.split("&"))
    yield parts.fragment


def secrets_in_header(value: str) -> Iterator[str]:
    """Find the credentials in the value of a header: all of it, the token behind a scheme, the login of ``Basic``."""
    yield value
    scheme, _, token = value.strip().partition(" ")
    yield token
    if scheme.lower() == "basic":
        try:
            login = b64decode(token, validate=True).decode()
        except ValueError:
            return
        yield from (login, login.partition(":")[2])


def _forms(secret: str) -> Iterator[str]:
    """Write a secret as it may be met: plain, line by line as output is masked, or encoded for a URL."""
    yield from secret.splitlines()
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield unquote(secret)


def _escaped(secret: str) -> Iterator[str]:
    """Write a secret as the answer of a server may repeat it."""
    yield secret.strip()
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret).replace("/", "\\/")[1:-1]
    yield html.escape(secret)
    yield re.sub("%..", lambda code: code[0].lower(), quote(secret, safe=""))


def _longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    kept = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
    return tuple(sorted(kept, key=lambda secret: (-len(secret), secret)))


def _secrets(
    content: object,
    variables: Callable[[str], Iterable[tuple[str, str]]],
    render: Callable[[str], str | None],
    *,
    is_secret: bool = False,
) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _secrets(value, variables, render, is_secret=bool(_SECRET_KEY.search(str(key))))
    elif isinstance(content, list):
        for value in content:
            yield from _secrets(value, variables, render, is_secret=is_secret)
    elif is_secret and isinstance(content, int) and not isinstance(content, bool):
        yield str(content)
    elif isinstance(content, str):
        if is_secret and "{{" not in content:
            yield content
        yield from (text for name, text in variables(content) if is_secret or _SECRET_KEY.search(name))
        yield from _inside(render(content) or content)


def _inside(text: str) -> Iterator[str]:
    """Find the secrets inside of a connection string."""
    for login in _LOGIN.finditer(text):
        yield login["secret"]
    for parameter in _PARAMETER.finditer(text):
        if _SECRET_PARAMETER.search(parameter["key"]):
            value = next((group for group in parameter.groups()[1:] if group is not None), "")
            yield value
            yield re.sub(r"\\(.)", r"\1", value)  # libpq escapes quotes so

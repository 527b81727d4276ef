"""Redaction of credentials in messages and logs.

- :func:`redact` masks everything that looks like a credential. It is for messages from other software, such as
  responses of servers and errors of database drivers.
- :func:`redact_urls` masks logins in URLs. It is for this package's messages that repeat a configured value.
- :class:`Redactor` also masks credentials that are known, in any encoding.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from html.entities import codepoint2name
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MASK = "***"
# A shorter secret would also match parts of ordinary words.
_SHORTEST_SECRET = 4
_SHORTEST_IN_BASE64 = 6
_URL_SAFE = str.maketrans("+/", "-_")
_SHORT_FORMS = {" ": [r"\+"], "\n": [r"\\+n"], "\r": [r"\\+r"], "\t": [r"\\+t"], "\b": [r"\\+b"], "\f": [r"\\+f"]}

# Keys of settings whose value is a secret.
_SECRET_KEY = re.compile(r"pass|secret|token|credential|key(?!word)|keyfile", re.IGNORECASE)
# Keys of connection strings. There a key that only ends in "key" is often not a secret.
_SECRET_PARAMETER = re.compile(
    r"pass|pwd|secret|token|credential|api_?key|account_?key|access_?key|^sig", re.IGNORECASE
)
# user:password@ of a URL. A password may contain an @ that is not encoded, so the last @ of the authority ends it.
_LOGIN = re.compile(r"\b[A-Za-z][\w+.-]*://[^\s:@/]*:(?P<secret>[^\s/]+)@")
# key=value of a DSN, an ODBC or JDBC string, or a URL's query. The value may be in quotes or (ODBC) in braces.
_PARAMETER = re.compile(r"(?P<key>[\w.-]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"|\{([^}]*)\}|([^\s;&'\"]+))")

# The patterns below search whole messages. Repetitions are bounded so that a search takes linear time.
_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|credential|signature"
    r"|(?:api|access|account|private|shared)[-_ ]?key"
)
# The slashes are escaped in JSON (`:\/\/`). A path normalizes them to one: `https:/…`.
_SLASHES = r":(?:\\?/){1,2}"
# Not `host:port/…@`, an address that is followed by an email address.
_LOGIN_IN_TEXT = re.compile(rf"({_SLASHES})[^\s/@:]{{0,256}}:(?!\d{{1,5}}[/\\?#\"',;)])\S{{0,4096}}@")
_ENCODED_LOGIN = re.compile(r"(%3A(?:%2F){1,2})(?:(?!%2F|%40|%3A)\S){0,256}%3A\S{0,512}?%40", re.IGNORECASE)
# Not for storage URLs such as abfss://container@account, where the part before the @ is not a credential.
_TOKEN_IN_URL = re.compile(rf"(?:(?<=http)|(?<=https)|(?<=git)|(?<=ftp))({_SLASHES})[^\s/@:]{{1,4096}}@", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(
    rf"((?:[?&;]|%26|%3F|\\u0026)(?:[\w.-]{{0,40}}(?:{_NAMES}|(?<![a-z])sig)[\w.-]{{0,40}}|key|code|jwt)(?:=|%3D|\\u003d))"
    r"[^\s&#'\"]+",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----)){0,16384}(?:-----END [A-Z ]{0,30}-----)?"
)
_QUOTE = r"(?:\\{0,8}[\"']|&quot;|&#0?3[49];|%2[27])?"
_EQUALS = rf"{_QUOTE}\s{{0,5}}(?:[:=]|%3[AD]|\\u003d)\s{{0,5}}"
_AUTHORIZATION = re.compile(
    rf"(authorization{_EQUALS}{_QUOTE})"
    r"(?:(?:digest|oauth|hawk|signature|aws4[\w-]{0,30})\s[^\r\n]+|(?:[a-z]+\s+)?[^\s\"',;\\]+)",
    re.IGNORECASE,
)
# Not "basic tests" and "a bearer token is required".
_WORD = r"(?:auth|authentication|authorization|credentials?|headers?|login|realm|scheme|tokens?)(?![\w.~+/-])"
_SCHEME = re.compile(
    rf"\b(?:((?i:bearer))\s+(?!(?i:{_WORD}))[\w.~+/=-]+|((?i:basic))\s+(?!(?i:{_WORD})|[A-Za-z]?[a-z]{{1,20}}(?![\w+/=-]))[\w+/=-]+)"
)
_COOKIE = re.compile(rf"(cookie{_EQUALS}{_QUOTE})[^\r\n\"']+", re.IGNORECASE)
_QUOTED = r"\"(?:[^\"\\]|\\.){0,4096}(?:\"|\Z)|'(?:[^'\\]|\\.){0,4096}(?:'|\Z)"
_NOTHING = r"(?!(?:null|None|true|false|True|False)(?![^\s,;)}\]]))"
# Not PASS=54 in dbt's summaries, nor "unexpected token: FROM" of SQL parsers.
_NAMED = re.compile(
    rf"((?:(?<![Uu]nexpected )(?i:{_NAMES})[\w-]{{0,20}}|(?<![A-Za-z])(?:pass|sig)\b|(?<=_)PASS\b)(?i:{_EQUALS}))"
    rf"{_NOTHING}"
    r"(\*{3}(?=[\s,;)}\]&<]|$)"  # masked already
    rf"|{_QUOTED}|(?P<quote>\\{{1,8}}[\"']|&quot;).{{0,4096}}?(?<!\\)(?:(?P=quote)|\Z)|\S+)"
)
_ELEMENT = re.compile(rf"(<[\w:.-]{{0,40}}(?:{_NAMES})[\w.-]{{0,40}}>)[^<]+", re.IGNORECASE)
_PAIR = re.compile(
    rf"(\(b?[\"'][\w-]{{0,40}}(?:{_NAMES}|authorization|cookie)[\w-]{{0,40}}[\"'], ?b?)(?:{_QUOTED})", re.IGNORECASE
)
_TOKEN = re.compile(
    r"\b(?:eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abeprs]-[\w-]{10,}|dapi[0-9a-f]{32})"
)
_LOGIN_OF_A_VALUE = re.compile(r"^([A-Za-z][\w+.-]*://)?[^\s@]*:.*@(?!(?:sha\d+|md5):)")


def redact(text: str) -> str:
    """Mask logins in URLs, values of keys such as ``password``, tokens and private keys."""
    text = redact_urls(_PRIVATE_KEY.sub(MASK, text))
    text = _SCHEME.sub(lambda found: f"{found[1] or found[2]} {MASK}", _AUTHORIZATION.sub(rf"\1{MASK}", text))
    for pattern in (_COOKIE, _NAMED, _ELEMENT, _PAIR):
        text = pattern.sub(rf"\1{MASK}", text)
    return _TOKEN.sub(MASK, text)


def redact_urls(text: str) -> str:
    """Mask logins and tokens in the URLs of a message."""
    if "/" not in text and "%" not in text:
        return text
    for pattern, end in ((_LOGIN_IN_TEXT, "@"), (_TOKEN_IN_URL, "@"), (_ENCODED_LOGIN, "%40")):
        text = pattern.sub(rf"\1{MASK}{end}", text)
    return _QUERY_IN_TEXT.sub(rf"\1{MASK}", text)


def redact_value(value: str) -> str:
    """Mask the login in a configured value. The value may lack the scheme of a URL, as in ``user:password@host``."""
    return redact_urls(_LOGIN_OF_A_VALUE.sub(rf"\g<1>{MASK}@", value))


class Redactor:
    """Masks known credentials in any encoding, and everything that looks like a credential."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Prepare the masking of ``secrets``; empty and very short ones are ignored."""
        forms = longest_first(
            form
            for secret in secrets
            for form in (*secret.splitlines(), secret, secret.strip(), unquote(secret), unquote_plus(secret))
        )
        coded = {code for form in forms for code in _in_base64(form)}
        written = [*map(_any_spelling, forms), *map(re.escape, sorted(coded, key=len, reverse=True))]
        self._known = re.compile("|".join(written)) if written else None

    def redact(self, text: str) -> str:
        """Return ``text`` with its credentials masked."""
        return redact(self.mask(text))

    def mask(self, text: str) -> str:
        """Return ``text`` with the known credentials masked, and nothing else."""
        return self._known.sub(MASK, text) if self._known else text


def is_secret_name(name: str) -> bool:
    """Return whether a variable or key with this name usually has a credential as its value."""
    return _SECRET_PARAMETER.search(name) is not None or "private_key" in name.lower()


def mask(text: str, secrets: Iterable[str]) -> str:
    """Mask each secret in its literal form only."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def secrets_of(
    settings: object,
    *,
    variables: Callable[[str], Iterable[tuple[str, str]]] = lambda _text: (),
    render: Callable[[str], str | None] = str,
) -> tuple[str, ...]:
    """Find the credentials in settings, in plain and in URL-encoded form, longest first.

    Credentials are the values of keys such as ``password``, values of environment variables that those keys read, and
    logins and secret parameters inside connection strings. A prefix of a longer secret must be masked after it, or the
    rest of the longer one stays visible; hence the order.

    Args:
        settings: Mappings, lists and strings.
        variables: Returns the names and values of the environment variables that a string reads.
        render: Returns a string with these variables filled in; None where that is not possible.
    """
    found = (form for secret in _secrets(settings, variables, render) for form in _forms(secret))
    return longest_first(found)


def secrets_in_url(url: str) -> Iterator[str]:
    """Find the credentials in a URL: password or token before the host, values of the query, the fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL
        return
    login = parts.netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    if login:
        yield from (password or user, login, unquote(login), b64encode(unquote(login).encode()).decode("ascii"))
    yield from (value for _, value in parse_qsl(parts.query))
    yield from (part.partition("=")[2] or part for part in parts.query.split("&"))
    yield parts.fragment


def secrets_in_header(value: str) -> Iterator[str]:
    """Find the credentials in an HTTP header: the whole value, the token after a scheme, the login of ``Basic``."""
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
    """List the forms of a secret: plain, each of its lines (output is masked line by line), URL-encoded."""
    yield from secret.splitlines()
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield unquote(secret)


def _any_spelling(secret: str) -> str:
    """Build a pattern of a secret with the escapes of JSON, HTML, URLs and Python, which may be nested."""
    return "".join(_any_letter(letter) for letter in re.sub(r"\\+", r"\\", secret))


def _any_letter(letter: str) -> str:
    if letter.isascii() and letter.isalnum():
        return letter
    if letter == "\\":
        return r"(?:\\+|(?:%(?:25)*5[Cc])+)"
    code = ord(letter)
    octets = letter.encode("utf-8", "surrogatepass")
    units = re.findall("....", letter.encode("utf-16-be", "surrogatepass").hex())
    entities = [f"#0*{code}", f"#[xX]0*(?i:{code:x})", codepoint2name.get(code, ""), "apos" if letter == "'" else ""]
    return "|".join(
        [
            "(?:" + "".join(rf"%(?:25)*(?i:{octet:02x})" for octet in octets),
            "".join(rf"\\+u(?i:{unit})" for unit in units),
            "".join(rf"\\+x(?i:{octet:02x})" for octet in octets),
            f"&(?:amp;)*(?:{'|'.join(filter(None, entities))});",
            *_SHORT_FORMS.get(letter, ()),
            rf"\\*{re.escape(letter)})",  # last: the entity `&amp;` starts with the letter that it represents
        ]
    )


def _in_base64(secret: str) -> Iterator[str]:
    """Return the Base64 of a secret at each of the three offsets that it can have in an encoded text."""
    content = secret.encode("utf-8", "surrogatepass")
    if len(content) < _SHORTEST_IN_BASE64:
        return
    for before, first in enumerate((0, 2, 3)):  # the first characters also encode the bytes before the secret
        code = b64encode(bytes(before) + content).decode("ascii")[first : (before + len(content)) * 8 // 6]
        yield from (code, code.translate(_URL_SAFE))


def longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the order in which secrets are masked, without those so short that they are in any text."""
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
        yield from _secrets_in_connection_string(render(content) or content)


def _secrets_in_connection_string(text: str) -> Iterator[str]:
    """Find the secrets inside a connection string."""
    for login in _LOGIN.finditer(text):
        yield login["secret"]
    for parameter in _PARAMETER.finditer(text):
        if _SECRET_PARAMETER.search(parameter["key"]):
            value = next((group for group in parameter.groups()[1:] if group is not None), "")
            yield value
            yield re.sub(r"\\(.)", r"\1", value)  # libpq escapes quotes with a backslash

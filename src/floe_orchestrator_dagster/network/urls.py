"""URLs as people write them: read, and shown without their secrets."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


class UnusableSettingError(ValueError):
    """A URL, a key or a header that no request can have; the text does not repeat its value."""


def http_url(url: str) -> SplitResult:
    """Split an HTTP URL; space around it, such as the line break of a file, is left out.

    Raises:
        UnusableSettingError: It is none.
    """
    try:
        parsed = urlsplit(url.strip())
        _ = parsed.port  # raises for a port that is not a number
    except ValueError:
        raise UnusableSettingError("the URL cannot be read") from None
    if parsed.scheme not in {"http", "https"} or not parsed.hostname:
        raise UnusableSettingError("the URL is not an http:// or https:// URL with a host")
    if any(ord(letter) <= ord(" ") for letter in f"{parsed.netloc}{parsed.path}{parsed.query}"):
        raise UnusableSettingError("the URL has letters that a URL must not have")
    return parsed


def shown_url(url: str) -> str:
    """Show a URL without its user, query and fragment: any of them may hold a secret."""
    try:
        parsed = http_url(url)
    except UnusableSettingError:
        return "the configured URL"
    return f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{parsed.path}"


def header_value(name: str, value: str) -> str:
    """Return the value of a header without the space around it, such as the line break of a file.

    Raises:
        UnusableSettingError: It has letters that a header must not have.
    """
    stripped = value.strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise UnusableSettingError(f"{name} has letters that a header must not have")
    return stripped

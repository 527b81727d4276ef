"""Checks of URLs and headers, without an HTTP client: each process of Dagster loads this module."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


class UnusableSettingError(ValueError):
    """A URL, a key or a header is not valid in an HTTP request. The message does not repeat its value."""


def http_url(url: str) -> SplitResult:
    """Split an HTTP URL, without surrounding white space such as the line break of a file.

    Raises:
        UnusableSettingError: It is not a valid HTTP URL.
    """
    try:
        parsed = urlsplit(url.strip())
        _ = parsed.port  # raises for a port that is not a number
    except ValueError:
        raise UnusableSettingError("the URL cannot be read") from None
    if parsed.scheme not in {"http", "https"} or not parsed.hostname:
        raise UnusableSettingError("the URL is not an http:// or https:// URL with a host")
    if any(ord(letter) <= ord(" ") for letter in f"{parsed.netloc}{parsed.path}{parsed.query}"):
        raise UnusableSettingError("the URL contains characters that are not valid in a URL")
    return parsed


def shown_url(url: str) -> str:
    """Return a URL without login, query and fragment, which may contain secrets."""
    try:
        parsed = http_url(url)
    except UnusableSettingError:
        return "the configured URL"
    return f"{parsed.scheme}://{parsed.netloc.rpartition('@')[2]}{parsed.path}"


def header_value(name: str, value: str) -> str:
    """Return the value of a header without surrounding white space such as the line break of a file.

    Raises:
        UnusableSettingError: It contains characters that are not valid in a header.
    """
    stripped = value.strip()
    if not (stripped.isascii() and stripped.isprintable()):
        raise UnusableSettingError(f"{name} contains characters that are not valid in a header")
    return stripped

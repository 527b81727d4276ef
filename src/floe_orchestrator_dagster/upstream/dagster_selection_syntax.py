"""Line and column of a syntax error in a Dagster asset selection.

Dagster's parser names the place, and ``AssetSelection.from_string`` does not pass it on. It reads a text that the
parser refuses in an older syntax, in which ``tag:a=b and kindd:c`` is the tag ``a`` with the value ``b and kindd:c``.
"""

from __future__ import annotations


def syntax_error(text: str) -> str | None:
    """Return the parser's message with line and column; None if it accepts the text, or this Dagster has no parser.

    Args:
        text: The selection.
    """
    try:
        from dagster._core.definitions.antlr_asset_selection.antlr_asset_selection import AntlrAssetSelectionParser
    except ImportError:
        return None
    try:
        AntlrAssetSelectionParser(text)
    except Exception as error:  # noqa: BLE001  # Dagster raises plain exceptions
        return str(error)
    return None

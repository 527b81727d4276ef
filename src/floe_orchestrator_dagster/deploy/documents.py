"""YAML documents of Helm and Kubernetes, written and read with the types that their parser gives to plain texts.

Unlike PyYAML, it reads an image's tag ``0812345`` as a number, and a date as a text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Numbers, booleans and line breaks of https://github.com/kubernetes-sigs/yaml (goyaml.v2), without underscores.
_QUOTED = re.compile(
    r"[-+]?(?:0[bBoOxX][0-9a-fA-F]*|\.?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]*)?)|[yYnN]|.*[\x85\u2028\u2029].*",
    re.DOTALL,
)


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes these texts."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _QUOTED.fullmatch(text.replace("_", "")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)


class _Loader(yaml.SafeLoader):
    """Loader that returns dates, ``=`` and ``<<`` as texts."""


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


for _tag in ("timestamp", "value", "merge"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _as_text)


def dumped(documents: Sequence[Mapping[str, object]]) -> str:
    """Return documents as YAML, with keys in their order."""
    text: str = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def parsed(text: str) -> object:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: The text is not one document.
        ValueError: A number has too many digits.
        RecursionError: Values are nested too deeply.
    """
    content: object = yaml.load(text, _Loader)  # noqa: S506  # a safe loader
    return content

"""The key ``translation`` of Dagster's components: asset attributes with templates, applied to the spec of each node.

Dagster has no public API for it. Its own components, such as ``DbtProjectComponent``, use the same class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from pydantic import BaseModel

Translation = Callable[[dg.AssetSpec, Mapping[str, Any]], dg.AssetSpec]

TRANSLATION_KEY = "translation"


def resolve_translation(context: dg.ResolutionContext, attributes: str | BaseModel) -> Translation:
    """Return a function that applies attributes of ``defs.yaml`` to a node's spec. Templates can read ``node``."""
    try:
        from dagster.components.utils.translation import TranslatorResolvingInfo
    except ImportError:  # Dagster before 1.11.3
        from dagster.components.utils import TranslatorResolvingInfo
    named = {"obj_name": "node"} if "obj_name" in {field.name for field in fields(TranslatorResolvingInfo)} else {}
    info = TranslatorResolvingInfo(
        **named, asset_attributes=attributes, resolution_context=context, model_key=TRANSLATION_KEY
    )

    def translate(spec: dg.AssetSpec, node: Mapping[str, Any]) -> dg.AssetSpec:
        return info.get_asset_spec(spec, {"node": node, "spec": spec})

    return translate

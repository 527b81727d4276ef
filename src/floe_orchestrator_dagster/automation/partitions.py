"""Jobs of a product whose assets follow partitions: a Dagster job has one kind of them.

The product's own job builds what is not partitioned and what follows the first partitions of the configuration. Each
other kind has a job of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.assets.partitions import partitions_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.product import Product


def partitions_by_job(product: Product) -> dict[str, dg.PartitionsDefinition[str]]:
    """Tell which job builds which kind of partitions, the product's own job first; empty without partitions.

    Raises:
        ConfigError: Partitions that cannot be.
    """
    found: dict[str, dg.PartitionsDefinition[str]] = {}
    seen: Counter[str] = Counter()
    for rule, definition in zip(product.config.partitions, partitions_definitions(product), strict=True):
        if definition in found.values():
            continue
        name = f"{product.identifier}_{rule.type}" if found else product.identifier
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name}_{seen[name]}"] = definition
    return found


def partition_requests(
    tick: str,
    definition: dg.PartitionsDefinition[str],
    keys: Sequence[dg.AssetKey] | None,
    tags: Mapping[str, str],
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for the run of the newest time partition that is complete, or for one run per static partition.

    Args:
        tick: What tells this tick from others: of several runs each has to have a key.
        definition: The partitions of the job.
        keys: What to build of the job; None for everything.
        tags: Tags of the runs.
    """
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        newest = definition.get_last_partition_key()
        if newest is None:
            yield dg.SkipReason("no partition is complete yet")
            return
        chosen = [newest]
    else:
        chosen = list(definition.get_partition_keys())
    for key in chosen:
        yield dg.RunRequest(run_key=f"{tick}/{key}", partition_key=key, asset_selection=keys, tags=tags)

"""Facts about a published state, and their file ``state.json``."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # pydantic reads the annotations
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  # pydantic reads the annotations
from pathlib import Path  # noqa: TC003  # pydantic reads the annotations
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter

STATE_FORMAT = 2
"""Version of the files. Files of other versions are not read."""
SET_NAME = r"^(?P<epoch>\d{6})-(?P<position>\d{15})-(?P<time>\d{8}T\d{12}Z)-[0-9a-f]{12}$"
"""Names of sets, whose alphabetical order is that of the states."""


@dataclass(frozen=True)
class StateFacts:
    """The facts of a state, without its files.

    Attributes:
        product: Name of the product.
        environment: The dbt target of the product's default compute, such as ``prod``.
        run_id: Id of the Dagster run; empty if a command published the state.
        published_at: Time of the publication, with a timezone.
        engine: Kind of the dbt engine: ``core`` or ``v2``.
        engine_version: Version of the engine, which also wrote the manifest.
        adapter: dbt's adapter, such as ``postgres``.
        manifest_schema: URL of the manifest's schema, which names its version.
        fingerprint_format: Version of the algorithm of the fingerprints.
        fingerprints: The fingerprint with which each table was built, by unique id, and the versions of tests. Nodes
            that no usual run has built with the project's current code are left out.
        history: Id of the record of builds that it was read from: of a Dagster instance, or ``dbt``.
        position: Position of the newest event of this record when it was read. A state with a greater one is newer,
            whatever the clocks of the machines are that publish.
    """

    product: str
    environment: str
    run_id: str
    published_at: datetime
    engine: str
    engine_version: str
    adapter: str
    manifest_schema: str
    fingerprint_format: int
    fingerprints: Mapping[str, str]
    history: str
    position: int


@dataclass(frozen=True)
class PublishedState(StateFacts):
    """A published state, with local copies of its files.

    Attributes:
        manifest: dbt's ``manifest.json``, with the places of the tables in the environment.
        run_results: dbt's ``run_results.json`` beside it, with the last result of each node.
    """

    manifest: Path
    run_results: Path


@dataclass(frozen=True)
class StateFile:
    """The content of ``state.json``.

    Attributes:
        format: Version of the files.
        facts: The facts.
        files: SHA-256 of each other file of the set, by name.
    """

    format: int
    facts: StateFacts
    files: Mapping[str, str]


@dataclass(frozen=True)
class Pointer:
    """The content of ``latest.json``.

    Attributes:
        format: Version of the files.
        set: Name of the set.
        sha256: Digest of its ``state.json``.
    """

    format: int
    set: Annotated[str, StringConstraints(pattern=SET_NAME)]
    sha256: str


STATE_FILE = TypeAdapter(StateFile)
POINTER = TypeAdapter(Pointer)

"""Records of builds and test results, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD_FORMAT = 1
"""Version of the records. Records of another version are not used."""


@dataclass(frozen=True)
class BuildRecord:
    """A successful build of a table or view.

    Attributes:
        build_id: Identifies the build.
        fingerprint: The node's fingerprint when it was built.
        place: Hash of the connection and of the table's name.
        inputs: What the build read: the builds of tables and views, and the data versions of sources, by unique id.
            None for an unknown one.
        cursor: Newest event of Dagster's event log when the build was decided.
        time: Time of the decision, in seconds since 1970.
        columns: Version of the table's columns; None if it is not known.
        codes: Fingerprints of the builds that it read, by unique id; without those that are not known.
        window: Hash of the window of partitions that was built; None for a table without partitions.
        series: Id of the series of builds that it belongs to, as in :func:`series_of`; None without partitions.
    """

    build_id: str
    fingerprint: str
    place: str
    inputs: Mapping[str, str | None]
    cursor: int
    time: float = 0.0
    columns: str | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    window: str | None = None
    series: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        partitions = {} if self.window is None else {"window": self.window, "series": self.series}
        return {
            "format": RECORD_FORMAT,
            "build_id": self.build_id,
            "fingerprint": self.fingerprint,
            "place": self.place,
            "inputs": dict(self.inputs),
            "cursor": self.cursor,
            "time": self.time,
            "columns": self.columns,
            "codes": dict(self.codes),
            **partitions,
        }


@dataclass(frozen=True)
class Unknown:
    """The state of a table of which it is not certain which build it has.

    Attributes:
        reason: Why.
    """

    reason: str


State = BuildRecord | Unknown


@dataclass(frozen=True)
class CheckRecord:
    """The last result of a test.

    Attributes:
        passed: Whether it passed or only warned.
        is_clean: Whether it passed without a warning.
        version: The test's version.
        inputs: What it read, as in :class:`BuildRecord`.
        run_id: Id of the run.
    """

    passed: bool
    is_clean: bool
    version: str
    inputs: Mapping[str, str | None]
    run_id: str

    def as_json(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        return {
            "format": RECORD_FORMAT,
            "passed": self.passed,
            "is_clean": self.is_clean,
            "version": self.version,
            "inputs": dict(self.inputs),
            "run_id": self.run_id,
        }


def read_build(stored: object) -> BuildRecord | None:
    """Read a stored record; None if it is missing, damaged or of another version."""
    if not isinstance(stored, dict) or stored.get("format") != RECORD_FORMAT:
        return None
    texts, cursor = [stored.get(name) for name in ("build_id", "fingerprint", "place")], stored.get("cursor")
    inputs = stored.get("inputs")
    if not all(isinstance(text, str) for text in texts) or not isinstance(cursor, int) or not _is_inputs(inputs):
        return None
    build_id, fingerprint, place = map(str, texts)
    time, columns = stored.get("time"), stored.get("columns")
    decided_at, codes = float(time) if isinstance(time, int | float) else 0.0, stored.get("codes")
    known_codes = {key: code for key, code in codes.items() if isinstance(code, str)} if isinstance(codes, dict) else {}
    known_columns = columns if isinstance(columns, str) else None
    record = BuildRecord(build_id, fingerprint, place, inputs, cursor, decided_at, known_columns, known_codes)
    window, series = stored.get("window"), stored.get("series")
    is_of_partitions = isinstance(window, str) and isinstance(series, str)
    return replace(record, window=window, series=series) if is_of_partitions else record


def read_test(stored: object) -> CheckRecord | None:
    """Read a stored record, as :func:`read_build` does."""
    if not isinstance(stored, dict) or stored.get("format") != RECORD_FORMAT:
        return None
    passed, is_clean = stored.get("passed"), stored.get("is_clean")
    version, run_id, inputs = stored.get("version"), stored.get("run_id"), stored.get("inputs")
    if not isinstance(passed, bool) or not isinstance(is_clean, bool) or not _is_inputs(inputs):
        return None
    if not isinstance(version, str) or not isinstance(run_id, str):
        return None
    return CheckRecord(passed, is_clean, version, inputs, run_id)


def _is_inputs(value: Any) -> TypeGuard[dict[str, str | None]]:  # noqa: ANN401  # JSON
    return isinstance(value, dict) and all(
        isinstance(key, str) and (text is None or isinstance(text, str)) for key, text in value.items()
    )

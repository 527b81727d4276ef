"""Published states in directories and on S3: complete sets, retention, and errors with a fix."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster import FloeDagsterError, StateError
from floe_orchestrator_dagster.state.published import PublishedState, StateFacts
from floe_orchestrator_dagster.state.sets import Publication, publish_state, read_state
from floe_orchestrator_dagster.state.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
FACTS = StateFacts(
    product="shop",
    environment="prod",
    run_id="r1",
    published_at=NOON,
    engine="core",
    engine_version="1.12.6",
    adapter="duckdb",
    manifest_schema="https://schemas.getdbt.com/dbt/manifest/v12.json",
    fingerprint_format=1,
    fingerprints={"model.shop.orders": "a1"},
    history="instance",
    position=0,
)


def publish(url: str, *, hours: float = 0, keep: int = 10, manifest: bytes = b"{}", **facts: object) -> str:
    """Publish a state at a time after noon, by the writer's clock."""
    changed = replace(FACTS, **{"published_at": NOON + timedelta(hours=hours), **facts})  # type: ignore[arg-type]
    return publish_state(url, changed, manifest, b'{"results": []}', keep).name


def problem(url: str, scratch: Path, product: str = "shop", environment: str = "prod") -> tuple[str, str, str]:
    with pytest.raises(StateError) as raised:
        read_state(url, product, environment, scratch)
    [found] = raised.value.problems
    assert isinstance(raised.value, FloeDagsterError)
    return found.where, found.what, found.fix


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def sets(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "shop/prod/sets").iterdir())


def test_reader_gets_what_was_published(store: Path, tmp_path: Path) -> None:
    publish(str(store), manifest=b'{"nodes": {}}')

    found = read_state(str(store), "shop", "prod", tmp_path / "scratch")

    manifest, results = tmp_path / "scratch/manifest.json", tmp_path / "scratch/run_results.json"
    assert found == PublishedState(**vars(FACTS), manifest=manifest, run_results=results)
    assert manifest.read_bytes() == b'{"nodes": {}}'
    assert results.read_bytes() == b'{"results": []}'


def test_latest_state_is_that_of_the_last_build_whatever_the_clocks_of_writers_are(store: Path, tmp_path: Path) -> None:
    names = [
        publish(str(store), position=9, hours=3, run_id="clock is fast"),
        publish(str(store), position=10, hours=-3, run_id="clock is slow"),
        publish(str(store), position=8, hours=5, run_id="late"),
    ]

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "clock is slow"
    assert sets(store) == [names[2], names[0], names[1]]


def test_of_two_states_of_the_same_builds_the_last_one_is_the_latest(store: Path, tmp_path: Path) -> None:
    publish(str(store), run_id="r1")
    publish(str(store), run_id="r2", hours=0.0001)

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r2"


def test_of_two_states_of_the_same_builds_the_last_one_is_the_latest_by_a_slow_clock(
    store: Path, tmp_path: Path
) -> None:
    for run, hours in (("r1", 0), ("r2", -1), ("r3", 0)):
        publish(str(store), run_id=run, hours=hours)

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r3"


@pytest.mark.parametrize(("newest", "latest"), [(50, "before"), (41, "after")])
def test_an_event_log_that_has_lost_events_starts_to_count_again(
    store: Path, tmp_path: Path, newest: int, latest: str
) -> None:
    publish(str(store), position=50, hours=1, run_id="before")

    after = replace(FACTS, position=40, run_id="after")
    published = publish_state(str(store), after, b"{}", b"{}", 10, lambda: newest)

    assert published == Publication(sets(store)[-1 if latest == "after" else 0], is_latest=latest == "after")
    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == latest


def test_another_event_log_starts_to_count_again(store: Path, tmp_path: Path) -> None:
    publish(str(store), position=1000)
    publish(str(store), position=3, hours=-1, history="new instance", run_id="r2")
    publish(str(store), position=2, hours=1, history="new instance", run_id="late")

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r2"


@pytest.mark.parametrize("moment", range(18))
def test_a_newer_state_is_the_latest_whenever_it_is_published_beside_an_older_one(
    store: Path, tmp_path: Path, moment: int
) -> None:
    publish(str(store), position=0, hours=-20, run_id="first")
    operations = 0

    def with_newer(name: str) -> Callable[..., Any]:
        operation = getattr(Store, name)

        def run(*arguments: object) -> object:
            nonlocal operations
            operations += 1
            if operations == moment + 1:
                publish(str(store), position=2, hours=-9, keep=1, run_id="newer")
            return operation(*arguments)

        return run

    with pytest.MonkeyPatch.context() as patched:
        for name in ("read", "write", "names", "remove"):
            patched.setattr(Store, name, with_newer(name))
        publish(str(store), position=1, hours=5, keep=1, run_id="older")

    found = read_state(str(store), "shop", "prod", tmp_path / "scratch")
    assert found.run_id == ("newer" if operations > moment else "older")


def test_a_pointer_that_a_killed_writer_has_left_is_corrected_by_the_next(store: Path, tmp_path: Path) -> None:
    publish(str(store), position=1, run_id="older")
    pointer = (store / "shop/prod/latest.json").read_bytes()
    publish(str(store), position=3, run_id="newer")
    (store / "shop/prod/latest.json").write_bytes(pointer)

    publish(str(store), position=2, run_id="between")

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "newer"


@pytest.mark.parametrize("seed", range(3))
def test_writers_side_by_side_leave_the_newest_state_as_the_latest(store: Path, tmp_path: Path, seed: int) -> None:
    random = Random(seed)  # noqa: S311
    write = Store.write

    def write_slowly(self: Store, path: str, content: bytes) -> None:
        time.sleep(random.random() / 50)
        write(self, path, content)

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(6) as pool:
        patched.setattr(Store, "write", write_slowly)
        order = random.sample(range(12), 12)
        written = [
            pool.submit(publish, str(store), position=one, hours=random.uniform(-5, 5), run_id=str(one))
            for one in order
        ]
        assert all(done.result() for done in written)

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "11"


def test_a_damaged_pointer_is_replaced(store: Path, tmp_path: Path) -> None:
    publish(str(store), run_id="r1")
    (store / "shop/prod/latest.json").write_text('{"format": 2, "set": "../../other", "sha256": ""}', encoding="utf-8")

    _, what, _ = problem(str(store), tmp_path)
    assert what.startswith("is damaged: set: String should match pattern")
    publish(str(store), position=1, run_id="r2")
    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r2"


def test_environments_and_products_with_any_name_are_separate(store: Path, tmp_path: Path) -> None:
    other = replace(FACTS, product="a/b", environment="../prod", run_id="other")
    publish_state(str(store), other, b"{}", b"{}", 10)
    publish(str(store))

    assert read_state(str(store), "a/b", "../prod", tmp_path / "1").run_id == "other"
    assert read_state(str(store), "shop", "prod", tmp_path / "2").run_id == "r1"
    assert not (tmp_path / "prod").exists()


def test_retention_keeps_the_newest_sets(store: Path) -> None:
    names = [publish(str(store), position=one, hours=2 * one, keep=3) for one in range(6)]

    assert sets(store) == names[-3:]


def test_retention_keeps_sets_of_the_last_hour_which_another_process_may_be_reading(store: Path) -> None:
    names = [publish(str(store), position=one, hours=hour, keep=1) for one, hour in enumerate((0, 1.5, 2))]

    assert sets(store) == names[1:]


def test_retention_keeps_the_latest_set_of_a_slow_clock(store: Path, tmp_path: Path) -> None:
    newer = publish(str(store), position=2, hours=-9, run_id="newer")
    older = publish(str(store), position=1, hours=5, keep=1, run_id="older")

    assert sets(store) == [older, newer]
    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "newer"


def test_retention_removes_incomplete_sets_and_leaves_other_files(store: Path, tmp_path: Path) -> None:
    incomplete = store / "shop/prod/sets/000000-000000000000000-20261130T080000000000Z-00000000dead"
    foreign = store / "shop/prod/sets/notes"
    for directory in (incomplete, foreign):
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text("{")

    name = publish(str(store), keep=1)

    assert sets(store) == [name, "notes"]
    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r1"


def test_reader_takes_the_newer_set_if_the_older_is_removed_meanwhile(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(str(store), run_id="r1")
    read, is_first = Store.read, [True]

    def read_late(self: Store, path: str) -> bytes:
        if path.endswith("manifest.json") and is_first.pop():
            is_first.append(False)
            publish(str(store), position=1, hours=5, keep=1, run_id="r2")
        return read(self, path)

    monkeypatch.setattr(Store, "read", read_late)

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r2"


def test_writers_and_readers_side_by_side_only_see_complete_states(store: Path, tmp_path: Path) -> None:
    publish(str(store), run_id="0", manifest=b"0")

    def write(number: int) -> None:
        publish(
            str(store),
            hours=number / 20,
            keep=1,
            run_id=str(number),
            position=number,
            manifest=str(number).encode() * 100_000,
        )

    def read(number: int) -> bool:
        found = read_state(str(store), "shop", "prod", tmp_path / f"scratch{number}")
        return set(found.manifest.read_text()) == set(found.run_id)

    with ThreadPoolExecutor(6) as pool:
        writes = [pool.submit(write, number) for number in range(1, 10)]
        reads = [pool.submit(read, number) for number in range(30)]
    assert [done.result() for done in writes] == [None] * 9
    assert all(done.result() for done in reads)
    assert not list(store.rglob("*.json.*"))


_KILLED_BEFORE_POINTER = """
import sys, time
from unit.state.test_sets import publish
from floe_orchestrator_dagster.state.store import Store
write = Store.write
def slow(self, path, content):
    if path.endswith("latest.json"):
        print("written", flush=True)
        time.sleep(60)
    write(self, path, content)
Store.write = slow
publish(sys.argv[1], position=1, run_id="killed")
"""


def test_writer_killed_before_the_pointer_leaves_the_old_state(store: Path, tmp_path: Path) -> None:
    publish(str(store), run_id="r1")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", _KILLED_BEFORE_POINTER, str(store)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)

    assert read_state(str(store), "shop", "prod", tmp_path / "scratch").run_id == "r1"
    assert publish(str(store), position=2, hours=30, keep=1) == sets(store)[0]


_AGAIN = "Run `floe-dagster state publish` in production, or wait for its next successful run."


def test_empty_store_has_no_state(store: Path, tmp_path: Path) -> None:
    assert problem(str(store), tmp_path) == (
        "",
        "has no state of the product 'shop'. The store is empty.",
        f"Check the URL. {_AGAIN}",
    )


def test_missing_product_names_those_that_have_a_state(store: Path, tmp_path: Path) -> None:
    publish(str(store))

    _, what, _ = problem(str(store), tmp_path, product="crm")

    assert what == "has no state of the product 'crm'. It has states of shop."


def test_missing_environment_names_those_that_have_a_state(store: Path, tmp_path: Path) -> None:
    publish(str(store))

    assert problem(str(store), tmp_path, environment="dev") == (
        "",
        "has no state of shop in the environment 'dev', but of prod",
        f"Name the environment (`--environment`, or `state.production`). {_AGAIN}",
    )


@pytest.mark.parametrize("file", ["manifest.json", "run_results.json", "state.json"])
def test_truncated_file_is_an_error(store: Path, tmp_path: Path, file: str) -> None:
    name = publish(str(store))
    path = store / "shop/prod/sets" / name / file
    path.write_bytes(path.read_bytes()[:-1])

    assert problem(str(store), tmp_path) == (f"shop/prod/sets/{name}/{file}", "is truncated or was changed", _AGAIN)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is damaged: Invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "is damaged: Input should be an object"),
        ('{"format": 2, "sha256": "x"}', "is damaged: set: Field required"),
    ],
)
def test_damaged_pointer_is_an_error(store: Path, tmp_path: Path, content: str, what: str) -> None:
    publish(str(store))
    (store / "shop/prod/latest.json").write_text(content)

    assert problem(str(store), tmp_path) == ("shop/prod/latest.json", what, _AGAIN)


def test_removed_set_is_an_error(store: Path, tmp_path: Path) -> None:
    name = publish(str(store))
    (store / "shop/prod/sets" / name / "manifest.json").unlink()

    assert problem(str(store), tmp_path) == ("shop/prod/latest.json", "names a state with missing files", _AGAIN)


def test_older_format_asks_for_another_version_in_production(store: Path, tmp_path: Path) -> None:
    publish(str(store))
    (store / "shop/prod/latest.json").write_text('{"format": 1, "set": "20261130T120000Z-00000000dead", "sha256": "x"}')

    assert problem(str(store), tmp_path)[1:] == (
        "has the format 1; this version of floe-orchestrator-dagster reads 2",
        "Install the version of floe-orchestrator-dagster in production that is here, and publish the state again.",
    )


def test_newer_format_asks_for_another_version(store: Path, tmp_path: Path) -> None:
    publish(str(store))
    pointer = store / "shop/prod/latest.json"
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "format": 3, "more": True}))

    assert problem(str(store), tmp_path) == (
        "shop/prod/latest.json",
        "has the format 3; this version of floe-orchestrator-dagster reads 2",
        "Install the version of floe-orchestrator-dagster here that production has.",
    )


def test_state_that_was_copied_from_another_product_is_an_error(store: Path, tmp_path: Path) -> None:
    publish(str(store))
    (store / "shop").rename(store / "crm")

    _, what, _ = problem(str(store), tmp_path, product="crm")

    assert what == "is the state of shop in 'prod', not of crm in 'prod'"


def test_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    _, what, fix = problem("s4://bucket/state", tmp_path)

    assert what == "cannot be opened: Protocol not known: s4"
    assert fix == "Write a directory, or a URL such as `s3://bucket/prefix`."


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("gs://b/x", "the package for gs:// is not installed", '`pip install "floe-orchestrator-dagster[state-gcs]"`'),
        ("abfs://b/x", "the package for abfs:// is not installed", "floe-orchestrator-dagster[state-azure]"),
        ("oss://b/x", "the package for oss:// is not installed", "Install ossfs"),
    ],
)
def test_missing_package_is_named(tmp_path: Path, url: str, what: str, fix: str) -> None:
    found = problem(url, tmp_path)

    assert found[1] == what
    assert fix in found[2]


def test_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match=r"cannot be listed: .*Not a directory"):
        publish(str(tmp_path / "file/store"))


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of moto; yields its address."""
    pytest.importorskip("moto", reason='no S3 of the tests: pip install "moto[server]" s3fs')
    pytest.importorskip("s3fs", reason='no S3 of the tests: pip install "moto[server]" s3fs')
    log = tmp_path_factory.mktemp("moto") / "log"
    words = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out) as server:
        try:
            yield _address(log, server)
        finally:
            server.terminate()


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        found = [line.split()[-1] for line in log.read_text().splitlines() if "Running on http" in line]
        if found:
            return found[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(log.read_text())


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    for name, value in (("AWS_ENDPOINT_URL", s3), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t!")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{time.monotonic_ns()}"
    s3fs.S3FileSystem().mkdir(name)
    return name


def test_state_on_s3_is_published_read_and_removed(bucket: str, tmp_path: Path) -> None:
    url = f"s3://{bucket}/floe/state"
    for hour in range(4):
        publish(url, position=hour, hours=2 * hour, keep=2, run_id=f"r{hour}", manifest=b"x" * 1000)

    found = read_state(url, "shop", "prod", tmp_path / "scratch")

    import s3fs

    assert (found.run_id, found.manifest.read_bytes()) == ("r3", b"x" * 1000)
    files = s3fs.S3FileSystem(use_listings_cache=False)
    assert len(files.ls(f"{bucket}/floe/state/shop/prod/sets")) == 2
    with pytest.raises(StateError, match=r"has no state of shop in the environment 'dev', but of prod"):
        read_state(url, "shop", "dev", tmp_path)


def test_missing_bucket_is_an_error(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"manifest.json cannot be written: .*bucket does not exist"):
        publish(f"s3://{bucket}-missing/state")
    with pytest.raises(StateError):
        read_state(f"s3://{bucket}-missing/state", "shop", "prod", tmp_path)


def test_unreachable_s3_is_an_error_soon_and_without_credentials(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()

    with pytest.raises(StateError, match="Could not connect to the endpoint URL") as raised:
        read_state(f"s3://{bucket}/state", "shop", "prod", tmp_path)

    assert time.monotonic() - started < 60
    assert "s3cr3t!" not in str(raised.value)


def test_login_in_the_url_is_masked(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"^s3://\*\*\*@") as raised:
        read_state(f"s3://user:s3cr3t!@{bucket}/state", "shop", "prod", tmp_path)

    assert "s3cr3t!" not in str(raised.value)

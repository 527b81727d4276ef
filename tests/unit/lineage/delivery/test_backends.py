"""Selection of the lineage backend, and the settings of each kind of transport."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.backends import Backend, find_backend, is_configured
from floe_orchestrator_dagster.lineage.delivery.client_sender import message_key
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError
from lineage_backend import event, free_port, serving
from processes import floe_dagster, run_python
from unit.samples import contract, validated

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from floe_core.schemas.compiled_artifacts import CompiledArtifacts

_ENDPOINT = "http://marquez:5000/api/v1/lineage"
_SECRET = "key-do-not-show"  # noqa: S105  # the value that nothing may show
_PLUGIN = """
from floe_core.plugins.lineage import LineageBackendPlugin
from pydantic import BaseModel, SecretStr


class Config(BaseModel):
    settings: dict = {}
    port: int = 1


class Plugin(LineageBackendPlugin):
    name = "catalogue"
    version = "1.0"
    floe_api_version = "1.0"

    def get_config_schema(self):
        return Config

    def get_transport_config(self):
        return {"type": "http", "timeout": 5.0, "drain_timeout": 30.0, "api_key": None, **self._config.settings}

    def get_namespace_strategy(self):
        return {}

    def get_helm_values(self):
        return {}

    def validate_connection(self):
        return True
"""


def artifacts(*, plugin: object = None, lineage: bool = True, **observability: object) -> CompiledArtifacts:
    content = contract()
    content["observability"] |= {"lineage": lineage, **observability}
    content["plugins"]["lineage_backend"] = plugin
    return validated(**{key: content[key] for key in ("observability", "plugins")})


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a lineage backend plugin; returns its name."""
    from floe_core import plugin_registry

    name = "catalogue"
    site = tmp_path / "site"
    installed = site / "catalogue_backend-1.0.dist-info"
    installed.mkdir(parents=True)
    (site / "catalogue_backend.py").write_text(_PLUGIN, encoding="utf-8")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: catalogue-backend\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[floe.lineage_backends]\n{name} = catalogue_backend:Plugin\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "catalogue_backend", raising=False)
    monkeypatch.setattr(plugin_registry, "_registry", None)
    return name


def found(contract: CompiledArtifacts | None) -> tuple[str, str] | None:
    backend = find_backend(contract)
    return (backend.source, backend.shown) if backend else None


# --- none -----------------------------------------------------------------------------------------------------------


def test_nothing_configured_means_no_backend_and_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "floe_orchestrator_dagster")

    assert find_backend(artifacts()) is None
    assert not is_configured(artifacts())
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.DEBUG,
        "no lineage backend is configured: no lineage is sent",
    )


def test_openlineage_is_not_imported_without_a_backend() -> None:
    code = """
import sys
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.backends import find_backend
assert find_backend(None) is None
print([name for name in ("openlineage", "requests", "dagster") if name in sys.modules])
"""
    assert run_python("-c", code).stdout == "[]\n"


@pytest.mark.parametrize("value", ["true", "True", " TRUE "])
def test_openlineage_disabled_by_the_operator_takes_precedence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", value)
    monkeypatch.setenv("OPENLINEAGE_URL", "http://operator:5000")

    assert find_backend(artifacts(lineage_endpoint=_ENDPOINT)) is None
    assert not is_configured(artifacts(lineage_endpoint=_ENDPOINT))


@pytest.mark.parametrize("changes", [{"lineage": False}, {"lineage_transport": "noop"}])
def test_contract_without_lineage_has_no_backend(changes: dict[str, Any]) -> None:
    assert find_backend(artifacts(lineage_endpoint=_ENDPOINT, **changes)) is None
    assert not is_configured(artifacts(lineage_endpoint=_ENDPOINT, **changes))


def test_noop_of_the_operator_means_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "noop")

    assert find_backend(artifacts(lineage_endpoint=_ENDPOINT)) is None


# --- the contract's endpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        (_ENDPOINT, _ENDPOINT),
        ("http://marquez:5000", _ENDPOINT),
        ("https://h/openapi/openlineage/api/v1/lineage?x=1", "https://h/openapi/openlineage/api/v1/lineage"),
        ("https://user:pw@h/events", "https://h/events"),
    ],
)
def test_endpoint_of_the_contract_is_complete(endpoint: str, shown: str) -> None:
    assert found(artifacts(lineage_endpoint=endpoint)) == ("observability.lineage_endpoint", shown)
    assert is_configured(artifacts(lineage_endpoint=endpoint))


def test_console_of_the_contract_is_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backend = find_backend(artifacts(lineage_transport="console"))
    assert backend is not None

    sender = backend.open(1)
    sender.send(_line("a"))
    sender.close()

    assert backend.shown == "the console"
    assert json.loads(caplog.records[-1].getMessage()) == json.loads(_line("a"))


@pytest.mark.parametrize("endpoint", ["marquez:5000", "ftp://marquez", "http://[::1", "http://h:port/"])
def test_endpoint_that_is_not_an_http_url_is_an_error_without_its_value(endpoint: str) -> None:
    backend = find_backend(artifacts(lineage_endpoint=endpoint)) if "[" not in endpoint else None
    backend = backend or Backend("observability.lineage_endpoint", "x", {"type": "http", "url": endpoint})

    with pytest.raises(LineageError, match="the lineage backend cannot be used") as raised:
        backend.open(1)
    assert endpoint not in str(raised.value)


# --- the operator's -------------------------------------------------------------------------------------------------


def test_operators_url_takes_precedence_over_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://operator:5000")

    assert found(artifacts(lineage_endpoint=_ENDPOINT)) == ("OPENLINEAGE_URL", "http://operator:5000/api/v1/lineage")
    assert found(None) == ("OPENLINEAGE_URL", "http://operator:5000/api/v1/lineage")


def test_operators_file_takes_precedence_over_variables_as_in_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(yaml.safe_dump({"transport": {"type": "file", "log_file_path": str(tmp_path / "events")}}))
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
    monkeypatch.setenv("OPENLINEAGE_URL", "http://operator:5000")

    assert found(artifacts()) == ("OPENLINEAGE_* or openlineage.yml", "the file transport")


def test_file_in_the_working_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "home" / "openlineage.yml").write_text("transport: {type: http, url: 'http://file:5000'}\n")

    assert found(artifacts()) == ("OPENLINEAGE_* or openlineage.yml", "http://file:5000/api/v1/lineage")


def test_operators_variables_without_a_transport_leave_the_choice_to_the_contract(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENLINEAGE__FACETS__ENVIRONMENT_VARIABLES", '["HOME"]')

    assert found(artifacts(lineage_endpoint=_ENDPOINT)) == ("observability.lineage_endpoint", _ENDPOINT)


def test_operators_settings_are_used_with_their_headers_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "async_http")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__ENDPOINT", "/events")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__AUTH", json.dumps({"type": "api_key", "apiKey": _SECRET}))
        send(find_backend(artifacts()))

    assert server.asked == [("/events", f"Bearer {_SECRET}")]


# --- the platform's plugin ------------------------------------------------------------------------------------------


def test_plugin_takes_precedence_and_its_complete_url_is_kept(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://operator:5000")
    settings = {"url": "http://catalogue:8080/api/v1/lineage", "endpoint": "api/v1/lineage"}
    chosen = reference(plugin, settings)

    assert found(artifacts(plugin=chosen, lineage_endpoint=_ENDPOINT)) == (
        "plugins.lineage_backend: catalogue",
        "http://catalogue:8080/api/v1/lineage",
    )
    assert is_configured(artifacts(plugin=chosen))


@pytest.mark.parametrize(
    ("variables", "authorization"),
    [
        ({}, None),
        ({"FLOE_LINEAGE_API_KEY": _SECRET}, f"Bearer {_SECRET}"),
        ({"OPENLINEAGE_API_KEY": _SECRET}, f"Bearer {_SECRET}"),
        # This key is for the operator's own server.
        ({"OPENLINEAGE_API_KEY": _SECRET, "OPENLINEAGE_URL": "http://operator:5000"}, None),
    ],
)
def test_api_key_of_a_plugin_comes_from_the_environment(
    plugin: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], authorization: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serving() as server:
        backend = find_backend(artifacts(plugin=reference(plugin, {"url": server.url})))
        send(backend)

    assert server.asked == [("/api/v1/lineage", authorization)]
    assert _SECRET not in repr(backend)


def test_standard_output_has_only_the_result_of_the_command(plugin: str, tmp_path: Path) -> None:
    content = contract()
    content["plugins"]["lineage_backend"] = reference(plugin, {"url": _ENDPOINT})
    content["observability"]["lineage"] = True
    path = tmp_path / "compiled_artifacts.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    python_path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])

    result = floe_dagster("lineage", "replay", str(path), "--json", PYTHONPATH=python_path)

    assert json.loads(result.stdout)["backend"] == _ENDPOINT


def test_plugin_that_is_not_installed_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(LineageError) as raised:
        find_backend(artifacts(plugin=reference("marquez-of-tests", {})))

    assert str(raised.value) == (
        "plugins.lineage_backend: 1 problem\n"
        "  type: no lineage backend plugin 'marquez-of-tests' is installed\n"
        "    fix: Install its package (such as floe-lineage-marquez-of-tests) where Dagster runs."
    )


def test_endpoint_replaces_a_plugin_that_is_not_installed(caplog: pytest.LogCaptureFixture) -> None:
    contract = artifacts(plugin=reference("marquez-of-tests", {}), lineage_endpoint=_ENDPOINT)

    assert found(contract) == ("observability.lineage_endpoint", _ENDPOINT)
    assert f"Lineage goes to {_ENDPOINT} (observability.lineage_endpoint) instead." in caplog.text


def test_message_of_the_plugin_explains_a_refused_configuration(plugin: str) -> None:
    refused = {**reference(plugin, {}), "config": {"port": f"{_SECRET}"}}

    with pytest.raises(LineageError, match="port: ") as raised:
        find_backend(artifacts(plugin=refused))

    assert _SECRET not in str(raised.value)


def test_plugin_without_a_url_is_an_error(plugin: str) -> None:
    with pytest.raises(LineageError, match=r"plugin 'catalogue' cannot be used \(KeyError\)"):
        find_backend(artifacts(plugin=reference(plugin, {})))


def test_noop_of_a_plugin_means_no_backend(plugin: str) -> None:
    assert find_backend(artifacts(plugin=reference(plugin, {"type": "noop"}), lineage_endpoint=_ENDPOINT)) is None


# --- events of each transport ---------------------------------------------------------------------------------------


def test_file_transport_writes_the_event_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    send(Backend("test", "file", {"type": "file", "log_file_path": str(path), "append": True}), "a", "b")

    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        json.loads(_line("a")),
        json.loads(_line("b")),
    ]


def test_file_that_cannot_be_written_is_retried(tmp_path: Path) -> None:
    backend = Backend("test", "file", {"type": "file", "log_file_path": str(tmp_path / "no" / "such"), "append": True})

    with pytest.raises(BackendUnavailableError, match="Failed to write to log file"):
        send(backend)


@pytest.mark.parametrize(("status", "error"), [(400, EventRefusedError), (500, BackendUnavailableError)])
def test_clients_http_transport_is_used_for_its_own_settings(status: int, error: type[Exception]) -> None:
    with serving() as server:
        settings = {"type": "http", "url": server.url, "endpoint": "", "compression": None}
        token = {"type": "api_key", "apiKey": _SECRET}
        backend = Backend("test", "x", {**settings, "auth": token, "sslContext": {}})
        send(backend)
        server.answer = lambda _event: status
        with pytest.raises(error) as raised:
            send(backend)

    assert str(raised.value) == f"HTTP {status}: answer {status}, you sent Bearer ***"
    assert server.names == ["a"]
    assert len(server.asked) == 2  # no retries of the client's own


def test_clients_http_transport_follows_no_redirect() -> None:
    with serving() as server:
        server.answer = lambda _event: (302, {"Location": "/login"})
        backend = Backend("test", "x", {"type": "http", "url": server.url, "endpoint": "", "sslContext": {}})
        with pytest.raises(BackendUnavailableError, match="TooManyRedirects"):
            send(backend)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_clients_http_transport_connects_directly_to_loopback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with serving() as server:
        send(Backend("test", "x", {"type": "http", "url": server.url, "endpoint": "", "compression": None}), "a")

    assert server.names == ["a"]


def test_clients_http_transport_supports_networks_in_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"type": "http", "url": "http://[fd00::1]:9", "compression": None}
    monkeypatch.setenv("ALL_PROXY", "nowhere://proxy.test")
    with pytest.raises(BackendUnavailableError, match=r"^ALL_PROXY does not name an http, https or socks5 proxy\. "):
        send(Backend("test", "x", settings), "a")

    monkeypatch.setenv("NO_PROXY", "fd00::/8")
    with pytest.raises(BackendUnavailableError, match=r"fd00::1"):
        send(Backend("test", "x", settings), "a")


def test_composite_is_delivered_once_every_part_has_it() -> None:
    with serving() as good, serving() as bad:
        parts = {"good": {"type": "http", "url": good.url, "endpoint": ""}, "bad": {"type": "http", "url": bad.url}}
        sender = Backend("test", "x", {"type": "composite", "transports": parts}).open(1)
        bad.answer = lambda _event: 500
        with pytest.raises(BackendUnavailableError):
            sender.send(_line("a"))
        bad.answer = lambda _event: 201
        sender.send(_line("a"))
        sender.close()

    assert (good.names, bad.names) == (["a"], ["a"])


def test_working_part_of_a_composite_gets_no_event_twice_while_another_fails(tmp_path: Path) -> None:
    with serving() as good, serving() as bad:
        bad.answer = lambda _event: 500
        parts = [{"type": "http", "url": server.url, "endpoint": ""} for server in (good, bad)]
        backend = Backend("test", "x", {"type": "composite", "transports": parts})
        with LineageEmitter(backend, tmp_path, LineageConfig(timeout_seconds=30, flush_seconds=60)) as lineage:
            for job in ("a", "b", "c"):
                lineage.emit(event(job))
            lineage.flush()
            bad.answer = lambda _event: 201
            deliveries = lineage.flush()

    assert (good.names, bad.names, deliveries.sent) == (["a", "b", "c"], ["a", "b", "c"], 3)


def test_composite_with_fallback_uses_the_next_part_when_the_first_is_down() -> None:
    with serving() as standby:
        parts = [
            {"type": "http", "url": f"http://127.0.0.1:{free_port()}"},
            {"type": "http", "url": standby.url, "endpoint": ""},
        ]
        send(Backend("test", "x", {"type": "composite", "transports": parts, "continue_on_success": False}))

    assert standby.names == ["a"]


def test_composite_whose_parts_all_refuse_refuses() -> None:
    with serving() as one, serving() as two:
        one.answer = two.answer = lambda _event: 400
        parts = [{"type": "http", "url": server.url, "endpoint": ""} for server in (one, two)]
        with pytest.raises(EventRefusedError):
            send(Backend("test", "x", {"type": "composite", "transports": parts}))


def test_kafka_waits_for_the_broker() -> None:
    pytest.importorskip("confluent_kafka")
    broker = {"test.mock.num.brokers": "1", "bootstrap.servers": "ignored"}
    send(Backend("test", "kafka", {"type": "kafka", "topic": "lineage", "config": broker}))


def test_kafka_without_a_broker_is_retried() -> None:
    pytest.importorskip("confluent_kafka")
    broker = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": "0"}
    with pytest.raises(BackendUnavailableError, match="no acknowledgement within"):
        send(Backend("test", "kafka", {"type": "kafka", "topic": "lineage", "config": broker}))


@pytest.mark.parametrize("parents", [[], ["parent"], ["parent", "root"]])
def test_kafka_key_is_the_same_as_the_clients(parents: list[str]) -> None:
    from openlineage.client.facet_v2 import parent_run
    from openlineage.client.serde import Serde
    from openlineage.client.transport.kafka import KafkaTransport

    started = event("a")
    run_id = started.run.runId
    root = parent_run.Root(parent_run.RootRun(run_id), parent_run.RootJob("dagster", "root"))
    facet = parent_run.ParentRunFacet(
        parent_run.Run(run_id), parent_run.Job("shop", "parent"), root if "root" in parents else None
    )
    started.run.facets = {"parent": facet} if parents else {}

    expected = KafkaTransport._get_run_message_key(object.__new__(KafkaTransport), started)

    assert message_key(json.loads(Serde.to_json(started))) == expected


def test_transport_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(LineageError, match=r"ImportError: Failed to import no_such_module\.Transport"):
        Backend("test", "x", {"type": "no_such_module.Transport"}).open(1)


def reference(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"type": name, "version": "1.0.0", "config": {"settings": settings}}


def send(backend: Backend | None, *jobs: str) -> None:
    assert backend is not None
    sender = backend.open(1)
    try:
        for job in jobs or ("a",):
            sender.send(_line(job))
    finally:
        sender.close()


def _line(job: str) -> bytes:
    from openlineage.client.serde import Serde

    return Serde.to_json(event(job)).encode()

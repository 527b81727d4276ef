"""The connection check against real local servers: it identifies Dagster, in bounded time, without secrets."""

from __future__ import annotations

import json
import socket
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from floe_core.plugins.orchestrator import ValidationResult

from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.connection import check, validate_connection
from floe_orchestrator_dagster.connection.webserver import MINIMUM_VERSION, QUERY, SHORT_QUERY
from hostile import certificate, free_port, serving, serving_bytes

if TYPE_CHECKING:
    from pathlib import Path

_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no message may show
_WHERE = "Set the address of a Dagster webserver (URL of `check`, webserver_url or DAGSTER_URL)"
_LOGIN = "Set webserver_headers, DAGSTER_BEARER_TOKEN or, for Dagster+, DAGSTER_CLOUD_API_TOKEN to a valid login."
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def _said(**changes: object) -> bytes:
    """Make the answer of a Dagster that is well."""
    data: dict[str, Any] = {
        "version": "1.13.27",
        "instance": {
            "daemonHealth": {"allDaemonStatuses": [{"daemonType": "SCHEDULER", "required": True, "healthy": True}]}
        },
        "workspaceOrError": {
            "__typename": "Workspace",
            "locationEntries": [
                {
                    "name": "floe",
                    "loadStatus": "LOADED",
                    "locationOrLoadError": {"__typename": "RepositoryLocation"},
                }
            ],
        },
    }
    return json.dumps({"data": {**data, **changes}}).encode()


def _daemons(*daemons: tuple[str, bool, bool | None]) -> dict[str, object]:
    statuses = [{"daemonType": name, "required": required, "healthy": healthy} for name, required, healthy in daemons]
    return {"daemonHealth": {"allDaemonStatuses": statuses}}


def _location(name: str, status: str, found: object) -> dict[str, object]:
    entry = {"name": name, "loadStatus": status, "locationOrLoadError": found}
    return {"__typename": "Workspace", "locationEntries": [entry]}


def _failure(url: str, problem: str) -> ValidationResult:
    return ValidationResult(success=False, message=f"No Dagster at {url}/", errors=[f"{url}/: {problem}"])


# --- Dagster --------------------------------------------------------------------------------------------------------


def test_healthy_webserver_is_a_success_without_warnings() -> None:
    with serving(_said()) as server:
        result = validate_connection(server.url)

    said = f"Dagster 1.13.27 with 1 code location answers at {server.url}/"
    assert result == ValidationResult(success=True, message=said)
    assert [(asked.path, asked.question) for asked in server.asked] == [("/graphql", QUERY)]


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/", "/graphql"), ("/dagster", "/dagster/graphql"), ("/a/b/", "/a/b/graphql"), ("/a/graphql", "/a/graphql")],
)
def test_path_of_the_url_is_kept(path: str, asked: str) -> None:
    with serving(_said()) as server:
        assert validate_connection(server.url + path).success

    assert [question.path for question in server.asked] == [asked]


def test_check_can_be_repeated() -> None:
    with serving(_said()) as server:
        assert check(server.url) == check(server.url)


def test_stopped_daemons_are_one_warning_that_says_what_to_start() -> None:
    daemons = _daemons(
        ("SCHEDULER", True, False), ("SENSOR", True, None), ("BACKFILL", True, True), ("OLD", False, False)
    )
    with serving(_said(instance=daemons)) as server:
        result = validate_connection(server.url)

    assert result.success
    assert result.warnings == [
        (
            "daemons that do not run: SCHEDULER, SENSOR; nothing is scheduled or queued until they do. "
            "Start `dagster-daemon run`, or look at its log."
        )
    ]


@pytest.mark.parametrize("has_cause", [False, True])
def test_code_location_in_error_is_a_warning_with_the_first_line_of_its_cause(*, has_cause: bool) -> None:
    message = f"ProfileError: cannot connect to postgresql://floe:{_SECRET}@db/shop\nStack Trace:\n  ..."
    found: dict[str, Any] = {"__typename": "PythonError", "message": message}
    if has_cause:
        load = "DagsterUserCodeLoadError: Error occurred during the loading of Dagster definitions in\n"
        found = {**found, "message": load, "causes": [{"message": "RuntimeError: while loading"}, {"message": message}]}
    with serving(_said(workspaceOrError=_location("retail", "LOADED", found))) as server:
        result = validate_connection(server.url)

    assert result.success
    assert result.warnings == [
        (
            "code location 'retail' does not load: ProfileError: cannot connect to postgresql://***@db/shop. "
            "The webserver's page Deployment > Code locations shows the whole error."
        )
    ]


def test_code_location_that_is_still_loading_is_a_warning() -> None:
    with serving(_said(workspaceOrError=_location("retail", "LOADING", None))) as server:
        result = validate_connection(server.url)

    assert result.warnings == ["code location 'retail' is still loading. Check again later."]


@pytest.mark.parametrize(("version", "is_old"), [("1.10.20", True), ("0.15", True), ("1.10.21", False), ("2", False)])
def test_version_below_the_minimum_is_a_warning(version: str, is_old: bool) -> None:  # noqa: FBT001  # a table's column
    with serving(_said(version=version)) as server:
        result = validate_connection(server.url)

    assert result.success
    assert [warning.partition(",")[0] for warning in result.warnings] == (
        [f"Dagster {version} is older than {MINIMUM_VERSION}"] if is_old else []
    )


def test_version_of_a_custom_build_is_not_a_warning() -> None:
    with serving(_said(version="our-build")) as server:
        assert validate_connection(server.url).warnings == []


def test_dagster_that_rejects_the_query_is_queried_for_its_version_only() -> None:
    def answer(question: str) -> tuple[int, bytes]:
        if question == SHORT_QUERY:
            return 200, b'{"data": {"version": "1.13.27"}}'
        return 400, b'{"errors": [{"message": "Cannot query field \\"workspaceOrError\\""}]}'

    with serving(answer) as server:
        result = validate_connection(server.url)

    assert result.message == f"Dagster 1.13.27 answers at {server.url}/"
    assert result.warnings == [
        "It does not report the state of its code locations and daemons. Use a login that has access to them."
    ]


# --- where, and with which login ------------------------------------------------------------------------------------


def test_address_comes_from_argument_configuration_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_said()) as first, serving(_said()) as second, serving(_said()) as third:
        monkeypatch.setenv("DAGSTER_URL", third.url)
        config = DagsterConfig(webserver_url=second.url)

        assert check(first.url, config=config).url == f"{first.url}/"
        assert check(config=config).url == f"{second.url}/"
        assert check(config=DagsterConfig()).url == f"{third.url}/"
        assert check().url == f"{third.url}/"

        monkeypatch.setenv("DAGSTER_URL", f" {third.url}\n")  # as read from a file
        assert check().message == f"Dagster 1.13.27 with 1 code location answers at {third.url}/"

        monkeypatch.setenv("DAGSTER_URL", "\n")
        assert check(timeout=0.5).url == "http://localhost:3000/"


def test_headers_come_from_the_variables_that_the_configuration_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LOGIN", f"  Basic {_SECRET}\n")
    monkeypatch.setenv("DAGSTER_BEARER_TOKEN", "another")
    headers = [{"name": "authorization", "variable": "SHOP_LOGIN"}, {"name": "X-Forwarded-User", "variable": "NOBODY"}]
    with serving(_said()) as server:
        found = check(config=DagsterConfig.model_validate({"webserver_url": server.url, "webserver_headers": headers}))

    assert server.asked[0].headers["Authorization"] == f"Basic {_SECRET}"
    assert "X-Forwarded-User" not in server.asked[0].headers
    said = "webserver_headers[1]: X-Forwarded-User is not sent, because the variable NOBODY is not set."
    assert found.warnings == (said,)
    assert _SECRET not in repr(found)


def test_invalid_header_is_a_warning_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LOGIN", f"Basic {_SECRET}\r\nX-Evil: 1")
    headers = [{"name": "Authorization", "variable": "SHOP_LOGIN"}]
    with serving(_said()) as server:
        found = check(config=DagsterConfig.model_validate({"webserver_url": server.url, "webserver_headers": headers}))

    assert "Authorization" not in server.asked[0].headers
    assert [warning.partition(":")[0] for warning in found.warnings] == ["webserver_headers[0]"]
    assert _SECRET not in repr(found)


def test_bearer_token_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_BEARER_TOKEN", _SECRET)
    with serving(_said()) as server:
        assert _SECRET not in repr(check(server.url))

    assert server.asked[0].headers["Authorization"] == f"Bearer {_SECRET}"


def test_token_of_dagster_plus_is_sent_to_dagster_plus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_CLOUD_API_TOKEN", _SECRET)
    # A proxy on this machine sees the host of a request, but not its content.
    with serving(_said()) as server, serving_bytes(b"HTTP/1.1 502 No\r\n\r\n") as proxy:
        assert check(server.url).webserver
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        check("http://shop.dagster.cloud/prod", timeout=30)

    assert "Dagster-Cloud-Api-Token" not in server.asked[0].headers
    assert b"http://shop.dagster.cloud/prod/graphql" in proxy.heard
    assert _SECRET.encode() not in proxy.heard


def test_token_of_dagster_plus_is_sent_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAGSTER_CLOUD_API_TOKEN", _SECRET)
    authority = certificate(tmp_path, "shop.dagster.cloud")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    connected = b"HTTP/1.1 200 Connected\r\n\r\n"
    with serving(_said(), tls=authority) as server, serving_bytes(connected, tunnel_to=server.address) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        found = check("https://shop.dagster.cloud/prod")

    assert found.message == "Dagster 1.13.27 with 1 code location answers at https://shop.dagster.cloud/"
    assert server.asked[0].headers["Dagster-Cloud-Api-Token"] == _SECRET
    assert _SECRET not in repr(found)


def test_credentials_in_the_url_are_sent_and_not_shown() -> None:
    with serving(_said()) as server:
        found = check(server.url.replace("http://", f"http://user:{_SECRET}@"))

    assert found.url == f"{server.url}/"
    assert server.asked[0].headers["Authorization"].startswith("Basic ")
    assert _SECRET not in repr(found)


def test_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")

    with serving(_said()) as server:
        assert validate_connection(server.url).success


@pytest.mark.skipif(find_spec("socksio") is not None, reason="SOCKS proxies work here")
def test_socks_proxy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")

    result = validate_connection("http://dagster.example.com")

    what = "ALL_PROXY names a SOCKS proxy, and the package socksio is not installed"
    fix = "Run `pip install 'httpx[socks]'`, or name the host in NO_PROXY."
    assert result == _failure("http://dagster.example.com", f"{what}. {fix}")


def test_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")

    result = validate_connection("http://dagster.example.com")

    what = "ALL_PROXY does not name an http, https or socks5 proxy"
    fix = "Correct ALL_PROXY (http://host:port), or name the host in NO_PROXY."
    assert result == _failure("http://dagster.example.com", f"{what}. {fix}")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_dead_proxy_is_at_fault_not_the_webserver(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ALL_PROXY", proxy)

    result = validate_connection(f"{scheme}://dagster.example.com")

    problem = f"the proxy {proxy} (ALL_PROXY): connection refused. Correct ALL_PROXY, or name the host in NO_PROXY."
    assert result == _failure(f"{scheme}://dagster.example.com", problem)


def test_proxy_that_refuses_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_bytes(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        result = validate_connection("https://dagster.example.com", timeout=30)

    fix = "Put user and password into HTTPS_PROXY, as in http://user:password@proxy:3128."
    problem = f"the proxy {proxy.url} (HTTPS_PROXY) asks for a login (HTTP 407). {fix}"
    assert result == _failure("https://dagster.example.com", problem)


# --- something else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (201, f"answers with HTTP 201, not as Dagster's GraphQL API. {_WHERE}."),
        (204, f"answers with HTTP 204, not as Dagster's GraphQL API. {_WHERE}."),
        (400, f"answers with JSON that is not Dagster's. {_WHERE}."),
        (401, f"answers with HTTP 401: it requires a valid login. {_LOGIN}"),
        (403, f"answers with HTTP 403: it requires a valid login. {_LOGIN}"),
        (
            404,
            (
                f"answers with HTTP 404: it has no GraphQL API at this path. {_WHERE}; "
                "include the path, if it was started with --path-prefix."
            ),
        ),
        (
            500,
            (
                "answers with HTTP 500: the webserver or a proxy in front of it fails. "
                "Check the logs of the webserver and of the proxy."
            ),
        ),
        (
            503,
            (
                "answers with HTTP 503: the webserver or a proxy in front of it fails. "
                "Check the logs of the webserver and of the proxy."
            ),
        ),
    ],
)
def test_other_http_status_says_what_to_do(status: int, problem: str) -> None:
    with serving(b"" if status == 204 else b"{}", status=status) as server:
        assert validate_connection(server.url) == _failure(server.url, problem)

    assert len(server.asked) == 1


def test_redirect_is_not_followed_and_its_target_is_named() -> None:
    with serving(
        b"", status=302, headers={"Location": f"https://user:{_SECRET}@login.example.com/in?s={_SECRET}"}
    ) as server:
        result = validate_connection(server.url)

    problem = "redirects to https://login.example.com/. If that is Dagster's address, use it; if it is a login: "
    assert result == _failure(server.url, problem + _LOGIN)


def test_redirect_loop_is_not_followed() -> None:
    with serving(b"", status=307, headers={"Location": "/graphql"}) as server:
        result = validate_connection(server.url)

    assert result.errors[0].startswith(f"{server.url}/: redirects to {server.url}/. ")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "headers", "found"),
    [
        (b"<html>Welcome</html>", {}, "with a web page, such as a login"),
        (b"Please sign in", {"Content-Type": "text/html; charset=utf-8"}, "with a web page, such as a login"),
        (b"", {}, "with content that is not JSON"),
        (b'{"data": {"version"', {}, "with content that is not JSON"),
        (b"\xff\xfe\x00", {}, "with content that is not JSON"),
        (b'"\xe9"', {}, "with content that is not JSON"),
        (b"[" * 60_000, {}, "with content that is not JSON"),
    ],
    ids=["page", "login", "empty", "cut", "binary", "latin1", "nested"],
)
def test_response_that_is_not_json_is_not_dagster(body: bytes, headers: dict[str, str], found: str) -> None:
    with serving(body, headers=headers) as server:
        result = validate_connection(server.url, timeout=30)

    assert result == _failure(server.url, f"answers {found}, not as Dagster's GraphQL API. {_WHERE}. {_LOGIN}")


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "1.13.27",
        {},
        {"version": "1.13.27"},
        {"data": None},
        {"data": []},
        {"data": {"version": None}},
        {"data": {"version": ""}},
        {"data": {"version": 1.13}},
        {"errors": [{"message": "no such field"}]},
        {"errors": "no", "data": {"version": {}}},
    ],
)
def test_other_json_is_not_dagster(content: object) -> None:
    with serving(json.dumps(content).encode()) as server:
        result = validate_connection(server.url)

    assert result == _failure(server.url, f"answers with JSON that is not Dagster's. {_WHERE}.")


@pytest.mark.parametrize(
    "changes",
    [
        {"instance": None, "workspaceOrError": None},
        {"instance": [], "workspaceOrError": "x"},
        {"instance": {"daemonHealth": 5}, "workspaceOrError": {"locationEntries": {}}},
        {"instance": {"daemonHealth": {"allDaemonStatuses": None}}, "workspaceOrError": {"__typename": "PythonError"}},
    ],
)
def test_dagster_that_reports_only_its_version_is_accepted(changes: dict[str, object]) -> None:
    with serving(_said(**changes)) as server:
        result = validate_connection(server.url)

    assert result.success
    assert result.warnings == [
        "It does not report the state of its code locations and daemons. Use a login that has access to them."
    ]


def test_body_of_a_gigabyte_is_not_read_to_its_end() -> None:
    with serving(b"[" + b" " * 65_535, repeat=16_384) as server:
        result = validate_connection(server.url, timeout=60)

    assert result == _failure(server.url, f"answers with too much data for Dagster's GraphQL API. {_WHERE}.")
    assert server.sent < 100_000_000


def test_response_in_an_unrequested_encoding_is_not_decoded() -> None:
    with serving(_said(), headers={"Content-Encoding": "gzip"}) as server:
        result = validate_connection(server.url)

    assert server.asked[0].headers["Accept-Encoding"] == "identity"
    problem = f"answers in an encoding that was not requested. {_WHERE}."
    assert result == _failure(server.url, problem)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"\x00\x01\x02\x03", b"HTTP/9.9 what\r\n\r\n"])
def test_server_without_http_is_reported(said: bytes) -> None:
    with serving_bytes(said) as server:
        result = validate_connection(server.url, timeout=30)

    assert result == _failure(server.url, f"it does not answer with HTTP. {_WHERE}.")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_server_that_closes_the_connection_is_reported(said: bytes) -> None:
    with serving_bytes(said) as server:
        result = validate_connection(server.url, timeout=30)

    assert result == _failure(server.url, f"it closed the connection without an answer. {_WHERE}.")


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_certificate_of_an_unknown_authority_says_where_to_name_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = certificate(tmp_path, "localhost")
    with serving(_said(), tls=authority) as server:
        url = f"https://localhost:{server.address[1]}"
        refused = validate_connection(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        accepted = validate_connection(url)

    problem = "its TLS certificate is not trusted: self-signed certificate. "
    assert refused == _failure(url, f"{problem}Set SSL_CERT_FILE to the certificate of the authority that signed it.")
    assert accepted.success


def test_certificate_of_another_host_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = certificate(tmp_path, "other.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with serving(_said(), tls=authority) as server:
        result = validate_connection(f"https://localhost:{server.address[1]}")

    assert "its TLS certificate is not trusted: Hostname mismatch" in result.errors[0]


def test_https_to_an_http_server_suggests_http() -> None:
    with serving(_said()) as server:
        result = validate_connection(server.url.replace("http://", "https://"))

    assert "TLS fails (" in result.errors[0]
    assert result.errors[0].endswith("which may need http:// instead of https://.")


def test_certificate_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))

    result = validate_connection("https://127.0.0.1:1")

    assert "SSL_CERT_FILE" in result.errors[0]


# --- too slow -------------------------------------------------------------------------------------------------------


def _answered_late(url: str, timeout: float = 0.4) -> None:
    started = time.monotonic()
    result = validate_connection(url, timeout=timeout)
    elapsed = time.monotonic() - started

    shown = url if url.endswith("/") else f"{url}/"
    said = f"no answer within {timeout:g} s. Check the address, and that the webserver is up and not overloaded."
    assert result.errors == [f"{shown}: {said}"]
    # Less than the server would take, much more than a busy machine needs.
    assert timeout * 0.9 <= elapsed < timeout + 15


def test_slow_response_times_out_and_is_cut_off() -> None:
    with serving(_said(), drip=0.05) as server:
        _answered_late(server.url)
        server.stopped.wait(60)

        assert server.sent < len(_said()) / 2


def test_slow_headers_time_out() -> None:
    with serving_bytes(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100, drip=0.05) as server:
        _answered_late(server.url)


def test_server_that_never_responds_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _answered_late(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_endless_handshake_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _answered_late(f"https://127.0.0.1:{silent.getsockname()[1]}")


def test_slow_handshake_times_out() -> None:
    # A TLS record of 16 KiB is announced, and comes byte by byte.
    with serving_bytes(b"\x16\x03\x03\x40\x00" + b"\x00" * 1000, drip=0.05, waits=False) as server:
        _answered_late(server.url.replace("http://", "https://"))


def test_unroutable_address_times_out() -> None:
    # An address for documentation (RFC 5737): no response, or an error of the network.
    started = time.monotonic()
    result = validate_connection("http://192.0.2.1:3000", timeout=0.5)

    assert not result.success
    assert time.monotonic() - started < 60  # the kernel gives up after two minutes


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_invalid_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"is not a number of seconds above 0, such as 10\."):
        validate_connection("http://127.0.0.1:1", timeout=timeout)


# --- nothing --------------------------------------------------------------------------------------------------------


def test_refused_port_says_how_to_start_dagster() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    problem = "connection refused. Start it (dagster dev), or correct the address (from the argument)."
    assert validate_connection(url) == _failure(url, problem)


def test_unknown_host_name_is_reported() -> None:
    result = validate_connection("http://dagster.invalid", timeout=30)

    problem = "its name cannot be resolved. Correct the address (from the argument), or the DNS of this machine."
    assert result == _failure("http://dagster.invalid", problem)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://[::1", "the configured URL"),
        ("http://127.0.0.1:port", "the configured URL"),
        ("http://\x00", "the configured URL"),
        ("ftp://dagster", "ftp://dagster/"),
        ("dagster:3000", "the configured URL"),
        ("nonsense", "the configured URL"),
        ("http://", "the configured URL"),
    ],
)
def test_invalid_address_says_what_to_correct(url: str, shown: str) -> None:
    result = validate_connection(url, timeout=30)

    problem = "it is not an http:// or https:// address. Correct the address (from the argument)."
    assert result.errors == [f"{shown}: {problem}"]


@pytest.mark.parametrize("host", [".", "a" * 64, "xn--a", "-", "127.0.0.1:1/a%3Fb", "h./a%23b"])
def test_invalid_host_is_refused_immediately(host: str) -> None:
    started = time.monotonic()

    assert not validate_connection(f"http://{host}", timeout=120).success
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "url",
    [
        "http://user:{secret}@127.0.0.1:{port}",
        "http://{secret}@127.0.0.1:{port}",
        "http://127.0.0.1:{port}/?token={secret}",
        "http://127.0.0.1:{port}/#{secret}",
        "http://user:{secret}@127.0.0.1:port",
        "ftp://user:{secret}@127.0.0.1",
        "http://127.0.0.1:{port}/{secret}",
        "user:{secret}@127.0.0.1:{port}",
        "http:user:{secret}@127.0.0.1",
        "//user:{secret}@127.0.0.1:{port}",
        "https://user:{secret}@127.0.0.1:{port}",
    ],
)
def test_credentials_are_never_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    found = check(url.format(secret=_SECRET, port=free_port()), timeout=30)

    assert found.webserver is None
    assert _SECRET not in repr(found)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("floe_")]
    assert not any(_SECRET in line for line in ours)

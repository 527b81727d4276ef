"""Masking of credentials in messages of servers and in messages that repeat a misplaced value."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import invoke
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import ConfigError, Problem, ScheduleError
from floe_orchestrator_dagster.lineage.delivery.backends import Backend
from floe_orchestrator_dagster.lineage.delivery.emitter import LineageEmitter
from floe_orchestrator_dagster.lineage.delivery.http_sender import HttpSender
from floe_orchestrator_dagster.lineage.delivery.sender import BackendUnavailableError, EventRefusedError
from floe_orchestrator_dagster.redaction import Redactor, redact, redact_urls, redact_value
from hostile import free_port, serving_bytes
from lineage_backend import event
from mirror import mirroring
from unit.samples import contract, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_SECRET = "hunter2/do+not&print"  # noqa: S105  # the value that nothing may show
_EVENT = b'{"job": {"name": "a"}}'


# --- texts of others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgres://dbt:s3cret@pg/shop is down", "postgres://***@pg/shop is down"),
        ("https://u:s3/cr@et@host/x, again", "https://***@host/x, again"),
        ("clone https://ghp_0123456789@github.com/org/repo", "clone https://***@github.com/org/repo"),
        ("GET https://h/x?tenant=1&access_token=s3cret&y=2", "GET https://h/x?tenant=1&access_token=***&y=2"),
        ("https://a.blob/x?sv=1&sig=s3cret%3D", "https://a.blob/x?sv=1&sig=***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ('{"authorization": "Bearer s3cret", "x": 1}', '{"authorization": "***", "x": 1}'),
        ("{'Proxy-Authorization': 'Basic dXNlcjpwYXNz'}", "{'Proxy-Authorization': '***'}"),
        ("sent bearer abc.def-ghi= to it", "sent bearer *** to it"),
        ("Cookie: session=s3cret; other=s3cret", "Cookie: ***"),
        ("client_secret=s3cret scope=all", "client_secret=*** scope=all"),
        ("X-Api-Key: s3cret", "X-Api-Key: ***"),
        ("aws_secret_access_key = 's3 cret'", "aws_secret_access_key = ***"),
        ("AccountKey=s3cret==;EndpointSuffix=x", "AccountKey=***"),
        ("DB_PASS=s3cret", "DB_PASS=***"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sflKxwRJSMeKKF2QT4 here", "got *** here"),
        ('Authorization: Digest username="u", response="s3cret"', "Authorization: ***"),
        ('{"password":"s3\\"cr et","x":1}', '{"password":***,"x":1}'),
        (r"{\"password\":\"s3 cret\",\"x\":1}", r"{\"password\":***,\"x\":1}"),
        ("{&quot;token&quot;:&quot;s3 cret&quot;}", "{&quot;token&quot;:***}"),
        ("grant=x&client_secret%3Ds3cret", "grant=x&client_secret%3D***"),
        ("[('X-Api-Key', 's3 cret'), ('a', 'b')]", "[('X-Api-Key', ***), ('a', 'b')]"),
        ("(b'authorization', b's3cret')", "(b'authorization', b***)"),
        ("<s:password>s3 cret</s:password>", "<s:password>***</s:password>"),
        (r"https:\/\/user:s3cret@host\/x", r"https:\/\/***@host\/x"),
        ("?next=https%3A%2F%2Fuser%3As3cret%40host%2Fx", "?next=https%3A%2F%2F***%40host%2Fx"),
        ("https://h/x?key=s3cret&y=2&amp;sig=s3cret", "https://h/x?key=***&y=2&amp;sig=***"),
        ("token ghp_0123456789abcdefghij of git", "token *** of git"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "***\nend"),
    ],
)
def test_what_looks_like_a_credential_is_masked(said: str, shown: str) -> None:
    assert redact(said) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "said",
    [
        "Done. PASS=54 WARN=0 ERROR=0 SKIP=0 TOTAL=54",
        'column "token" does not exist',
        "abfss://container@account.dfs.core.windows.net/path",
        "duplicate key value violates unique constraint: id=7",
        "http://localhost:3000/graphql answers with HTTP 404",
        "mail to a@example.com",
        "primary_key: id",
        "HTTP 401: basic authentication failed",
        "a basic test failed; Basic realm=retail, a bearer token is required",
        "syntax error: unexpected token: FROM",
        'GET {"url":"http://lake:9000/x","owner":"ops@example.com"}',
        "http://lake:9000/email=a@example.com/part-1",
        '{"password": null, "token": false}',
        "columns ['token', 'password_hash', 'id']",
    ],
)
def test_other_text_is_unchanged(said: str) -> None:
    assert redact(said) == said


@pytest.mark.parametrize(
    "text",
    [
        "://a:" * 20_000,
        "y" * 100_000,
        "token" * 20_000,
        "a@" * 50_000,
        "password = " * 10_000,
        "-----BEGIN PRIVATE KEY-----" * 4_000,
        'password = "' * 10_000,
        'token=\\"' * 10_000,
        "<password>" * 10_000,
        "%3A%2F%2Fa%3A" * 10_000,
        "authorization: digest " * 5_000,
        "&key" * 20_000,
    ],
    ids=[
        *("logins", "word", "names", "ats", "pairs", "keys", "quotes", "escaped quotes", "elements", "encoded logins"),
        *("authorizations", "queries"),
    ],
)
def test_hostile_text_is_redacted_in_time(text: str) -> None:
    started = time.monotonic()
    redact(text)

    assert time.monotonic() - started < 15


# --- known credentials ----------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=6, max_size=30))
def test_known_secret_is_masked_in_any_notation(secret: str) -> None:
    encoded = quote(secret, safe="")
    lower = re.sub("%..", lambda code: code[0].lower(), encoded)

    redactor = Redactor([secret])

    for form in (secret, json.dumps(secret)[1:-1], encoded, lower, escape(secret)):
        assert redactor.redact(f"<{form}>") == "<***>"


@pytest.mark.parametrize(
    "spelled",
    [
        *(r"hunter2\/do+not\u0026print", r"hunter2/do\u002Bnot\u0026print", "hunter2/do+not&#38;print"),
        *("hunter2%252Fdo%252Bnot%2526print", "hunter2/do+not&amp;amp;print", r"hunter2\\/do+not\\u0026print"),
    ],
)
def test_known_secret_is_masked_in_notations_of_other_languages(spelled: str) -> None:
    assert Redactor([_SECRET]).redact(f"<{spelled}>") == "<***>"


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "a", "user:", "{}"])
def test_known_secret_is_masked_in_base64(encode: Callable[[bytes], bytes], before: str) -> None:
    coded = encode(f"{before}{_SECRET}?>~and what follows".encode()).decode()

    shown = Redactor([f"{_SECRET}?>~"]).redact(coded)

    kept = shown.replace("***", "")
    assert shown.count("***") == 1
    assert coded.startswith(shown.partition("***")[0])
    assert len(kept) < len(encode(f"{before}and what follows".encode())) + 4


def test_very_short_secrets_are_not_masked() -> None:
    assert Redactor(["a", "no", ""]).redact("no answer of a server") == "no answer of a server"


def test_many_backslashes_are_masked_in_time() -> None:
    started = time.monotonic()
    Redactor(["\\" * 40 + "!" * 40]).redact("\\" * 20_000 + "!" * 20_000)

    assert time.monotonic() - started < 15


@pytest.mark.parametrize("case", ["headers", "query", "basic", "basic header", "bearer"])
def test_backend_that_echoes_the_request_shows_no_credential(case: str) -> None:
    login = f"user:{_SECRET}"
    encoded = b64encode(login.encode()).decode()
    with mirroring() as url:
        cases: Mapping[str, Mapping[str, object]] = {
            "headers": {"url": url, "headers": {"X-Tenant-Login": _SECRET}},
            "query": {"url": f"{url}?code={quote(_SECRET, safe='')}"},
            "basic": {"url": url.replace("//", f"//user:{quote(_SECRET, safe='')}@")},
            "basic header": {"url": url, "headers": {"Authorization": f"Basic {encoded}"}},
            "bearer": {"url": url, "api_key": _SECRET},
        }
        sender = HttpSender(timeout=20, **cases[case])  # type: ignore[arg-type]
        with pytest.raises(EventRefusedError) as raised:
            sender.send(_EVENT)
        sender.close()

    said = str(raised.value)
    assert said.startswith("HTTP 400: ")
    for secret in (_SECRET, quote(_SECRET, safe=""), encoded, json.dumps(_SECRET)[1:-1]):
        assert secret not in said
    assert "***" in said


def test_echoed_credentials_reach_no_file_and_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract())
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    product = contract()["metadata"]["product_name"]
    spool = tmp_path / "state" / product / "lineage"
    with mirroring() as url:
        settings = {
            "type": "http",
            "url": url.replace("//", f"//user:{quote(_SECRET, safe='')}@"),
            "endpoint": f"x?code={quote(_SECRET, safe='')}",
            "custom_headers": {"X-Login": _SECRET},
        }
        with LineageEmitter(Backend("test", url, settings), spool, LineageConfig(flush_seconds=20)) as lineage:
            lineage.emit(event("a"))
            assert lineage.flush().refused == 1

    result = invoke("lineage", "status", str(path))

    written = "".join(file.read_text() for file in spool.rglob("*") if file.is_file())
    assert "HTTP 400: " in result.stdout
    encoded = b64encode(f"user:{_SECRET}".encode()).decode()
    for secret in (_SECRET, quote(_SECRET, safe=""), encoded):
        assert secret not in written
        assert secret not in result.stdout + result.stderr


@pytest.mark.parametrize("extra", [{}, {"compression": None}])
def test_proxy_that_repeats_its_own_login_shows_no_credential(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, object]
) -> None:
    body = f"no user with the key {_SECRET}".encode()
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with serving_bytes(answer) as server:
        for variable in ("no_proxy", "NO_PROXY", "http_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", f"//user:{quote(_SECRET, safe='')}@"))
        sender = Backend("test", "x", {"type": "http", "url": "http://marquez.test", **extra}).open(20)
        with pytest.raises(BackendUnavailableError, match=r"^HTTP 403: no user with the key \*\*\*$"):
            sender.send(json.dumps(_whole_event()).encode())
        sender.close()


@pytest.mark.parametrize("extra", [{"sslContext": {}}, {"compression": None}])
def test_openlineages_own_transport_shows_no_credential(extra: dict[str, object]) -> None:
    with mirroring() as url:
        settings = {
            "type": "http",
            "url": url.replace("//", f"//user:{quote(_SECRET, safe='')}@"),
            "custom_headers": {"X-Login": _SECRET},
            "auth": {"type": "api_key", "apiKey": _SECRET},
        }
        sender = Backend("test", "x", {**settings, **extra}).open(20)
        with pytest.raises(EventRefusedError) as raised:
            sender.send(json.dumps(_whole_event()).encode())
        sender.close()

    assert _SECRET not in str(raised.value)
    assert quote(_SECRET, safe="") not in str(raised.value)


def _whole_event() -> dict[str, object]:
    from openlineage.client.serde import Serde

    whole: dict[str, object] = json.loads(Serde.to_json(event("a")))
    return whole


# --- values in the wrong place --------------------------------------------------------------------------------------

_MISPLACED = "https://user:p4ss-word@host.test/x"


def test_errors_show_no_login() -> None:
    error = ConfigError(_MISPLACED, [Problem(f"namespaces.{_MISPLACED}", f"{_MISPLACED!r} is unknown", _MISPLACED)])

    assert "p4ss-word" not in str(error)
    assert "p4ss-word" not in repr(error.problems)
    assert "p4ss-word" not in error.origin
    assert str(ScheduleError(f"{_MISPLACED!r} is not a cron")) == "'https://***@host.test/x' is not a cron"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (_MISPLACED, "https://***@host.test/x"),
        ("u:p@r/x", "***@r/x"),
        ("retail=u:p@ss@r/x:1", "***@r/x:1"),
        ("registry.test:5000/x:1@sha256:abc", "registry.test:5000/x:1@sha256:abc"),
        ("/opt/floe", "/opt/floe"),
    ],
)
def test_configured_value_is_shown_without_its_login(value: str, shown: str) -> None:
    assert redact_value(value) == shown


def test_login_in_a_path_built_from_a_url_is_masked() -> None:
    assert redact_urls("no file /files/https:/user:p4ss-word@host.test/x") == "no file /files/https:/***@host.test/x"


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", _MISPLACED],
        ["plan", _MISPLACED],
        ["prepare", _MISPLACED],
        ["lineage", "status", _MISPLACED],
        ["validate", "a", _MISPLACED],
        [_MISPLACED],
        ["check", "--timeout", _MISPLACED],
        ["check", f"http://user:p4ss-word@127.0.0.1:{free_port()}"],
        ["helm", "{artifacts}", "--image", _MISPLACED],
        ["helm", "{artifacts}", "--image", "user:p4ss-word@registry.test/x"],
        ["helm", "{artifacts}", "--image", "a=user:p4ss-word@registry.test/x"],
        ["helm", "{artifacts}", "--image", "r/x:1", "--env-secret", _MISPLACED],
        ["helm", "{artifacts}", "--image", "r/x:1", "--image-pull-secret", "user:p4ss-word@r"],
        ["helm", "{artifacts}", "--image", "r/x:1", "--service-account", _MISPLACED],
        ["helm", "{artifacts}", "--image", "r/x:1", "--artifacts-path", _MISPLACED],
        ["helm", "{artifacts}", "--image", "r/x:1", "--otlp-endpoint", _MISPLACED],
        ["helm", "{artifacts}", "--image", "r/x:1", "--postgres-host", _MISPLACED],
        ["helm", "{artifacts}", "--image", "r/x:1", "--postgres-host", "pg", "--postgres-user", _MISPLACED],
    ],
    ids=lambda arguments: "_".join(part.strip("-{}") for part in arguments[:5] if "p4ss" not in part),
)
def test_command_repeats_no_password(tmp_path: Path, arguments: list[str]) -> None:
    path = write_json(tmp_path / "compiled_artifacts.json", contract())

    result = invoke(*(argument.format(artifacts=path) for argument in arguments))

    assert result.exit_code in (1, 2)
    assert "p4ss-word" not in result.stdout + result.stderr


def test_variable_that_names_a_url_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", _MISPLACED)

    result = invoke("validate")

    assert result.exit_code == 1
    assert "p4ss-word" not in result.stdout + result.stderr

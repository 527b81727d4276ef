"""One GraphQL question, asked of an address that may be anything; what goes wrong says what to do."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

import httpx
import orjson

from floe_orchestrator_dagster.connection.address import BEARER_VARIABLE, DAGSTER_PLUS_VARIABLE, shown_url
from floe_orchestrator_dagster.connection.deadline import answer_within
from floe_orchestrator_dagster.connection.webserver import QUESTION, SHORT_QUESTION, Webserver, read_webserver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from floe_orchestrator_dagster.connection.address import Address

_LONGEST_ANSWER = 4 * 1024 * 1024
_PIECE = 64 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_WHERE = "Name the address of a Dagster webserver (URL of `check`, webserver_url or DAGSTER_URL)"
_LOGIN = f"Set webserver_headers, {BEARER_VARIABLE} or, for Dagster+, {DAGSTER_PLUS_VARIABLE} to what it asks for."


class NoDagsterError(Exception):
    """No Dagster answers; the text says what was found instead and what to do, and holds no secret."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}")


def ask_webserver(address: Address, timeout: float) -> Webserver:
    """Ask what version, code locations and daemons are there, within ``timeout`` seconds of wall clock.

    Raises:
        NoDagsterError: Nothing answers there in time, or something else than Dagster.
    """
    deadline = time.monotonic() + timeout
    try:
        # Leaving the client closes its connections, which ends an answer that is still dripping in.
        with _client(address, timeout) as client:
            return answer_within(max(0.0, deadline - time.monotonic()), lambda: _ask(client, address, deadline))
    except (TimeoutError, httpx.TimeoutException):
        what = f"no answer within {timeout:g} s"
        raise NoDagsterError(what, "Check the address, and that the webserver is up and not overloaded.") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise _unreachable(error, address) from None


def _client(address: Address, timeout: float) -> httpx.Client:
    try:
        return httpx.Client(
            timeout=timeout,
            # A proxy of the environment is never the way to this machine.
            mounts={f"all://{host}": None for host in _LOOPBACK},
            # What comes is counted as it comes: no answer grows when it is unpacked.
            headers={"Accept-Encoding": "identity", "Accept": "application/json", **address.headers},
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        what = "the environment names a proxy that cannot be used"
        fix = "Correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (http:// or https://), or name the host in NO_PROXY."
        raise NoDagsterError(what, fix) from None
    except OSError:
        what = "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"
        raise NoDagsterError(what, "Correct the variable, or unset it.") from None


def _ask(client: httpx.Client, address: Address, deadline: float) -> Webserver:
    """Ask everything; only the version of a Dagster that does not know, or not allow, the rest."""
    for question in (QUESTION, SHORT_QUESTION):
        answer = _post(client, address, question, deadline)
        webserver = read_webserver(answer)
        if webserver is not None:
            return webserver
        if not (isinstance(answer, dict) and answer.get("errors")):
            break
    raise NoDagsterError("answers with JSON that is not Dagster's", f"{_WHERE}.")


def _post(client: httpx.Client, address: Address, question: str, deadline: float) -> object:
    with client.stream("POST", address.endpoint, json={"query": question}) as response:
        # Dagster says 400 to a question with a mistake, and in its body which.
        if response.status_code not in (httpx.codes.OK, httpx.codes.BAD_REQUEST):
            raise _refused(response)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise NoDagsterError("answers in an encoding that was not asked for", f"{_WHERE}, not of something else.")
        body = b""
        for piece in response.iter_raw(_PIECE):
            body += piece
            if len(body) > _LONGEST_ANSWER:
                raise NoDagsterError("answers with too much data for Dagster's GraphQL API", f"{_WHERE}.")
            if time.monotonic() > deadline:
                raise TimeoutError
    try:
        return orjson.loads(body)
    except ValueError:
        is_page = "html" in response.headers.get("Content-Type", "") or body.lstrip()[:1] == b"<"
        found = "with a web page, such as a login" if is_page else "with something that is no JSON"
        raise NoDagsterError(f"answers {found}, not as Dagster's GraphQL API", f"{_WHERE}. {_LOGIN}") from None


def _refused(response: httpx.Response) -> NoDagsterError:
    status = response.status_code
    if response.has_redirect_location:
        target = shown_url(str(response.url.join(response.headers["Location"])))
        return NoDagsterError(
            f"redirects to {target}", f"If that is Dagster's address, use it; if it is a login: {_LOGIN}"
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.PROXY_AUTHENTICATION_REQUIRED):
        return NoDagsterError(f"answers with HTTP {status}: it wants a login, or another one", _LOGIN)
    if status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
        fix = f"{_WHERE}; include the path, if it was started with --path-prefix."
        return NoDagsterError(f"answers with HTTP {status}: no GraphQL API is there", fix)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        fix = "Look at the log of the webserver, and of what is in front of it."
        return NoDagsterError(f"answers with HTTP {status}: it, or what is in front of it, fails", fix)
    return NoDagsterError(f"answers with HTTP {status}, not as Dagster's GraphQL API", f"{_WHERE}.")


def _unreachable(error: Exception, address: Address) -> NoDagsterError:
    explained = (_explained(cause, address) for cause in _causes(error))
    fix = f"Correct the address (from {address.source})."
    return next(filter(None, explained), NoDagsterError(f"not reachable ({type(error).__name__})", fix))


def _explained(cause: BaseException, address: Address) -> NoDagsterError | None:
    named = f"the address (from {address.source})"
    what = fix = ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        what = f"its certificate is not trusted ({cause.verify_message})"
        fix = "Set SSL_CERT_FILE to the certificate of the authority that signed it."
    elif isinstance(cause, ssl.SSLError):
        what = f"TLS fails ({(cause.reason or 'no reason given').replace('_', ' ').lower()})"
        fix = f"Correct {named}: is it http:// there?"
    elif isinstance(cause, httpx.ProxyError):
        what, fix = "the proxy of the environment refuses", "Correct HTTP_PROXY, HTTPS_PROXY or NO_PROXY."
    elif isinstance(cause, socket.gaierror):
        what, fix = "no host of that name is known", f"Correct {named}, or the DNS of this machine."
    elif isinstance(cause, ConnectionRefusedError):
        what, fix = "nothing listens there", f"Start it (dagster dev), or correct {named}."
    elif isinstance(cause, (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)):
        what, fix = "is no http:// or https:// address", f"Correct {named}."
    elif isinstance(cause, (httpx.RemoteProtocolError, httpx.ReadError)):
        what, fix = "answers, but not with HTTP", f"{_WHERE}."
    elif isinstance(cause, OSError) and cause.strerror:
        what, fix = f"not reachable ({cause.strerror.lower()})", f"Correct {named}, or the network."
    return NoDagsterError(what, fix) if what else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__

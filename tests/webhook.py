"""A webhook on this machine that receives the messages of alerts."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Webhook:
    """Received messages.

    Attributes:
        url: Its URL in Apprise's form.
        messages: The bodies of all requests.
        status: HTTP status of the answers.
        refused: Messages with this in their title are refused; empty for none.
    """

    def __init__(self, port: int) -> None:
        """Answer with success."""
        self.url = f"json://127.0.0.1:{port}/alerts"
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.refused = ""


@contextmanager
def receiving() -> Iterator[Webhook]:
    """Receive messages on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.messages.append(json.loads(body))
            is_refused = webhook.refused and webhook.refused in webhook.messages[-1]["title"]
            self.send_response(400 if is_refused else webhook.status)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        webhook = Webhook(server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()

"""A local server with the part of the hub's API that an upload needs, for the real hub client."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub(ThreadingHTTPServer):
    """Accepts uploads of models.

    Attributes:
        tokens: The authorization header of each request.
        files: For each model its files by path.
        messages: The message of each commit.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens: list[str | None] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.messages: list[str] = []

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        self.server.tokens.append(self.headers["Authorization"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            self.server.files.setdefault(name, {})
            self._respond({"url": f"{self.server.address}/{name}"})
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._respond(
                {
                    "files": [
                        {"path": name, "uploadMode": "regular", "shouldIgnore": False}
                        for name in names
                    ]
                }
            )
        elif path.endswith("/commit/main"):
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    self.server.messages.append(line["value"]["summary"])
                elif line["key"] == "file":
                    self.server.files[name][line["value"]["path"]] = base64.b64decode(
                        line["value"]["content"]
                    )
            self._respond(
                {
                    "success": True,
                    "commitOid": "0" * 40,
                    "commitUrl": f"{self.server.address}/{name}/commit/0",
                }
            )
        else:
            self._respond({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self._respond({})

    def _respond(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


@contextmanager
def hub() -> Iterator[Hub]:
    """Context manager: a running server."""
    with Hub() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

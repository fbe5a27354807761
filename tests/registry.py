"""A schema registry inside the test: Confluent's few endpoints that we use, and the faults that a real one can have."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], bool]
"""Answers a request in another way, and says whether it did."""


class RegistryServer(ThreadingHTTPServer):
    """Schemas by id and by (subject, version). requests: paths asked for so far. fault: None for none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.by_id: dict[int, dict[str, Any]] = {}
        self.by_version: dict[tuple[str, int], dict[str, Any]] = {}
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.fault: Fault | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, schema: Any, subject: str = "prices-value", **more: Any) -> int:
        """Register a schema, a text or what is JSON; returns its id, which is its version too."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        number = len(self.by_id) + 1
        found = {"schema": text, **more}
        self.by_id[number] = found
        self.by_version[subject, number] = {"subject": subject, "version": number, "id": number, **found}
        return number


@contextmanager
def registry_server() -> Iterator[RegistryServer]:
    """One that serves for the time of the block."""
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: RegistryServer

    def do_GET(self) -> None:
        self._note()
        if self.server.fault is not None and self.server.fault(self):
            return
        match self.path.strip("/").split("/"):
            case ["schemas", "types"]:
                self.answer(200, ["AVRO"])
            case ["schemas", "ids", number] if int(number) in self.server.by_id:
                self.answer(200, self.server.by_id[int(number)])
            case ["subjects", subject, "versions", version] if (subject, int(version)) in self.server.by_version:
                self.answer(200, self.server.by_version[subject, int(version)])
            case _:
                self.answer(404, {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        self._note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.fault is not None and self.server.fault(self):
            return
        self.answer(200, {"id": self.server.add(body["schema"], self.path.split("/")[2])})

    def answer(self, code: int, body: Any, **headers: str) -> bool:
        """Send JSON. True: the request has its answer."""
        content = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        return True

    def _note(self) -> None:
        self.server.requests.append(self.path)
        self.server.headers = dict(self.headers.items())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

"""A real HTTP server on localhost, in a thread, that answers as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promptgym.llms import load_model
from promptgym.llms.openai.model import OpenAIModel

SECRET = "very-secret-key-0123456789"
LABELS = ["positive", "negative"]


@dataclass
class Seen:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    time: float


@dataclass
class Answer:
    """What goes out. `cut` sends only so many bytes of the body and closes; `raw` sends itself."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    raw: bytes | None = None


Behave = Callable[[Seen], Answer]


def chat(text: str | None, **more: Any) -> Answer:
    """A chat completion."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return Answer(body={"choices": [choice], "usage": usage})


GOOD = chat("positive")


def script(answers: Iterable[Answer]) -> Behave:
    """Answer with one after the other."""
    rest = iter(answers)
    lock = threading.Lock()

    def behave(seen: Seen) -> Answer:
        with lock:
            return next(rest)

    return behave


class FaultServer:
    """The server: what it saw, and how many requests were under way at a time."""

    def __init__(self, behave: Behave) -> None:
        """Start on a free port."""
        self.behave = behave
        self.seen: list[Seen] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body leave together

            def do_POST(self) -> None:  # the name that http.server calls
                outer.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that hang up are part of the game

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        raw = http.rfile.read(int(http.headers["Content-Length"]))
        path = http.path.removeprefix("/v1")
        seen = Seen(path, dict(http.headers), json.loads(raw), time.monotonic())
        with self.lock:
            self.seen.append(seen)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answer = self.behave(seen)
        if answer.delay:
            self.closing.wait(answer.delay)
        with self.lock:
            self.in_flight -= 1
        if answer.raw is not None:
            http.wfile.write(answer.raw)
            http.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        http.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            http.send_header(name, value)
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        http.wfile.write(body[: answer.cut])
        if answer.cut is not None:
            http.close_connection = True

    def spec(self, model: str = "m") -> str:
        """What `load_model` takes."""
        return f"openai:{self.url}#{model}"

    def close(self) -> None:
        """Stop."""
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(timeout=5)


@contextmanager
def serving(behave: Behave) -> Iterator[FaultServer]:
    """Run a server for a while."""
    server = FaultServer(behave)
    try:
        yield server
    finally:
        server.close()


def model_at(server: FaultServer, **options: Any) -> OpenAIModel:
    """A chat model that asks the server nothing when it is loaded."""
    model = load_model(server.spec(), **{"api": "chat", "labels": "generate"} | options)
    assert isinstance(model, OpenAIModel)
    return model


def statuses(failures: dict[int, str] | Any) -> dict[int, str]:
    """The status word of every failure."""
    return {i: reason.partition(": ")[0] for i, reason in failures.items()}

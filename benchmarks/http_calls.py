"""What a call to a served model costs: CPU per call, and calls per second over the ideal.

    python benchmarks/http_calls.py                          # 32 at a time, a server of 20 ms
    python benchmarks/http_calls.py --labels logprobs        # completions with echo
    taskset -c 0 python benchmarks/http_calls.py       # client and server on one core

A server process for each answers every request after a fixed time, as cheaply as Python can. The
client is `load_model("openai:...")` as users have it: bodies, limiter, retries, metering, parsing
and arrays included. CPU is that of the whole client process over the calls of a round
(`time.process_time`); the ideal is concurrency / server time. Beside it, in the same rounds, a bare
client sends fixed bytes over as many sockets and looks at nothing that comes back: where that one
stays below the ideal too, the machine is busy. The median over rounds and the range are shown; the
first round warms up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

LABELS = ("positive", "negative")
TEXT = "Classify the sentiment of this review: {} the film was long, but I liked it. Sentiment:"
KNOWN: dict[bytes, bytes] = {}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def answer(path: bytes, body: bytes) -> bytes:
    """Return the answer to a request."""
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    if path.endswith(b"/chat/completions"):
        if path not in KNOWN:
            message = {"role": "assistant", "content": LABELS[0]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            KNOWN[path] = whole({"choices": [choice], "usage": usage})
        return KNOWN[path]
    prompts = json.loads(body)["prompt"]
    choices = []
    for n, prompt in enumerate(prompts):
        tokens = [*(f" {word}" for word in prompt.split()), "."]
        logprobs = {"tokens": tokens, "token_logprobs": [None] + [-2.5] * (len(tokens) - 1)}
        choices.append({"index": n, "text": prompt + ".", "logprobs": logprobs})
    return whole({"choices": choices, "usage": {**usage, "completion_tokens": len(prompts)}})


def whole(body: Any) -> bytes:
    """Return an HTTP answer."""
    data = json.dumps(body).encode()
    return HEAD % len(data) + data


class _Protocol(asyncio.Protocol):
    """Reads requests off a connection and answers each after `seconds`."""

    seconds = 0.02

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = (
                self.buffer[end + 4 : end + 4 + length],
                self.buffer[end + 4 + length :],
            )
            data = answer(head.split(b" ")[1], body)
            asyncio.get_running_loop().call_later(self.seconds, self.transport.write, data)


def serve(pipe: Connection, seconds: float) -> None:
    """Run the server; send its port through the pipe."""
    _Protocol.seconds = seconds

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Protocol, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class _Bare(asyncio.Protocol):
    """Sends a request whenever anything came back, as long as there are some left."""

    def __init__(self, request: bytes, left: list[int], done: asyncio.Event) -> None:
        """Share what is left with the other connections."""
        self.request, self.left, self.done = request, left, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first."""
        self.transport: Any = transport
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Count an answer, send the next."""
        self.left[1] -= bool(data)
        if self.left[1] <= 0:
            self.done.set()
        elif self.left[0] > 0:
            self.left[0] -= 1
            self.transport.write(self.request)


def bare(port: int, calls: int, concurrency: int) -> None:
    """Make calls as cheaply as can be."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": TEXT}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"

    async def run() -> None:
        left, done, loop = [calls, calls], asyncio.Event(), asyncio.get_running_loop()
        made = [
            await loop.create_connection(
                lambda: _Bare(head.encode() + body, left, done), "127.0.0.1", port
            )
            for _ in range(concurrency)
        ]
        await done.wait()
        for transport, _ in made:
            transport.close()

    asyncio.run(run())


def timed(work: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Return CPU milliseconds per call and calls per second."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return used / calls * 1e3, calls / wall


def ask(model: Any, texts: list[str]) -> None:
    """Score texts; nothing may fail."""
    found = model.label_logprobs(texts, LABELS)
    if found.failures:
        raise SystemExit(f"{len(found.failures)} failures: {next(iter(found.failures.items()))}")


def spread(values: list[float], form: str) -> str:
    """Return the median and the range."""
    low, mid, high = min(values), statistics.median(values), max(values)
    return f"{mid:{form}} ({low:{form}}-{high:{form}})"


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=0.02, help="of the server, per request")
    parser.add_argument("--calls", type=int, default=4000, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--labels", choices=("generate", "logprobs"), action="append")
    args = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    kinds = [*(args.labels or ("generate", "logprobs")), "bare client"]
    for _ in kinds:
        here, there = context.Pipe()
        processes.append(context.Process(target=serve, args=(there, args.seconds), daemon=True))
        processes[-1].start()
        pipes.append(here)
    try:
        from promptgym.llms import load_model

        ports = {kind: pipe.recv() for kind, pipe in zip(kinds, pipes, strict=True)}
        ideal = args.concurrency / args.seconds
        print(
            f"{args.calls} calls a round, {args.concurrency} at a time, {args.seconds * 1e3:g} ms"
        )
        models = {}
        for labels in kinds[:-1]:
            api = "chat" if labels == "generate" else "completions"
            url = f"openai:http://127.0.0.1:{ports[labels]}/v1#m"
            models[labels] = load_model(
                url, labels=labels, api=api, concurrency=args.concurrency, retries=0
            )
        found: dict[str, list[tuple[float, float]]] = {
            name: [] for name in (*models, "bare client")
        }
        for number in range(args.rounds + 1):
            texts = [TEXT.format(f"{number}-{i}") for i in range(args.calls)]
            work: dict[str, Callable[[], Any]] = {
                name: partial(ask, model, texts) for name, model in models.items()
            }
            work["bare client"] = partial(bare, ports["bare client"], args.calls, args.concurrency)
            for name, do in work.items():
                figures = timed(do, args.calls)
                if number:
                    found[name].append(figures)
        print("| labels | CPU per call, ms | calls/s | of the ideal |")
        print("|" + " --- |" * 4)
        for name, rounds in found.items():
            cpu, rate = [c for c, _ in rounds], [r for _, r in rounds]
            share = spread([r / ideal for r in rate], ".2f")
            print(f"| {name} | {spread(cpu, '.3f')} | {spread(rate, ',.0f')} | {share} |")
    finally:
        for process in processes:
            process.terminate()


if __name__ == "__main__":
    main()

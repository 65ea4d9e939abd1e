"""`Server`: one connection pool and one limiter for all models at a URL; requests with retries."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from promptgym.llms.openai import loop
from promptgym.llms.openai.keys import Key
from promptgym.llms.openai.limiter import Limiter
from promptgym.llms.openai.prices import Meter, tokens_of
from promptgym.llms.openai.retry import Fault, Policy, fault_of_answer

log = logging.getLogger(__name__)

LARGEST_ANSWER = 64 * 2**20  # bytes
SHOWN = 200  # characters of what a server says that go into a message


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: a JSON object, or a fault and the attempts it took."""

    body: dict[str, Any]
    fault: Fault | None = None
    attempts: int = 1


class Server:
    """Sends requests to one server. Used on the background loop; see `server_for`.

    Attributes:
        url: base address, without a slash at the end.
        limiter: when requests may go.
    """

    def __init__(self, url: str, key: Key) -> None:
        """Open nothing yet."""
        self.url = url
        self.limiter = Limiter()
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """Return the address; never the key."""
        return f"Server({self.url!r})"

    async def post(
        self, path: str, fields: Mapping[str, Any], *, policy: Policy, meter: Meter, tokens: float
    ) -> Reply:
        """Send a JSON object, again where that may help, and return the one that comes back.

        Args:
            path: behind the base address, "/completions".
            fields: the body.
            policy: timeout, deadline and retries.
            meter: where what was used is counted.
            tokens: expected tokens, read and written, for the limiter.

        Returns:
            The answer, or the last fault. Expected faults are never raised.
        """
        data = json.dumps(fields).encode()
        spent, fault = 0.0, None
        for attempt in range(policy.retries + 1):
            if (paused := self.limiter.paused_for()) > policy.deadline - spent:
                held = f"the server asks for a pause of {paused:.0f} s, past the deadline"
                return Reply({}, fault or Fault("api_error", held), attempt or 1)
            ticket = await self.limiter.acquire(tokens)
            start, used = time.monotonic(), None
            try:
                meter.sent()
                limit = min(policy.timeout, policy.deadline - spent)
                try:
                    found = await self._attempt(path, data, limit)
                except asyncio.CancelledError:
                    meter.lost()  # the server may go on, and bill it
                    raise
                finally:
                    meter.back()
                if not isinstance(found, Fault):
                    used = tokens_of(found)
                    meter.answered(used)
                    return Reply(found, None, attempt + 1)
            finally:
                self.limiter.release(ticket, None if used is None else float(sum(used)))
            fault = found
            spent += time.monotonic() - start
            if fault.unmetered:
                meter.lost()
            wait = policy.pause(attempt, fault.after)
            if fault.after is not None:
                self.limiter.pause(fault.after)
            log.debug("%s%s, attempt %d: %s", self.url, path, attempt + 1, fault.what)
            if not fault.again or attempt == policy.retries or spent + wait >= policy.deadline:
                break
            spent += wait
            await asyncio.sleep(wait)
        assert fault is not None
        return Reply({}, fault, attempt + 1)

    async def _attempt(self, path: str, data: bytes, limit: float) -> dict[str, Any] | Fault:
        """Send once and read the answer within `limit` seconds.

        Exceptions of the HTTP library end here, as text: they hold the request's headers.
        """
        try:
            async with (
                asyncio.timeout(limit),
                self._opened().post(self.url + path, data=data, allow_redirects=False) as answer,
            ):
                raw = await _read(answer)
                if raw is None:
                    what = f"the answer is larger than {LARGEST_ANSWER:,} bytes"
                    return Fault("api_error", what, unmetered=True)
                return self._judge(answer.status, answer.headers, raw)
        except TimeoutError:
            what = f"no whole answer within {limit:.3g} s"
            return Fault("timeout", what, again=True, unmetered=True)
        except aiohttp.ClientConnectorError as error:
            what = f"cannot connect to {self.url}: {self._say(error)}"
            return Fault("api_error", what, again=True)
        except (aiohttp.ClientError, OSError) as error:
            what = f"the answer broke off or is no HTTP: {self._say(error)}"
            return Fault("api_error", what, again=True, unmetered=True)

    def _judge(self, http: int, headers: Mapping[str, str], raw: bytes) -> dict[str, Any] | Fault:
        """Return the JSON object of an answer, or what is wrong with it."""
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if http == 200 and isinstance(body, dict) and not body.get("error"):
            return body
        if http != 200 or isinstance(body, dict):
            code, what = _error_of(body) or ("", _text(raw))
            if http == 200 and code.isdecimal() and 400 <= int(code) < 600:
                http = int(code)  # as routers do that have begun to answer when a model fails
            return fault_of_answer(http, code, self.short(what), headers)
        what = self.short(f"the answer is no JSON object: {_text(raw)}")
        return Fault("api_error", what, again=True, unmetered=True)

    def _say(self, error: Exception) -> str:
        """Return what an exception says, without secrets."""
        return self.short(f"{type(error).__name__}: {error}")

    def short(self, text: str) -> str:
        """Return a text as messages may show it: secrets replaced, on one line, cut, in that order.

        A key that is cut first is not found any more, so nothing may be cut before.
        """
        line = " ".join(self._key.scrub(text).split())
        return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session; on the background loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Content-Type": "application/json", **self._key.headers()},
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=_proxy_for(self.url),
            )
            close = loop.at_close(self._session.close)
            weakref.finalize(self, close).atexit = False
        return self._session


async def _read(answer: aiohttp.ClientResponse) -> bytes | None:
    """Read a body; None if it is too large."""
    size = answer.content_length
    if size is not None and size <= LARGEST_ANSWER and "Content-Encoding" not in answer.headers:
        return await answer.read()
    parts, length = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        length += len(part)
        if length > LARGEST_ANSWER:
            return None
    return b"".join(parts)


def _text(raw: bytes) -> str:
    """Return a body as text."""
    return raw.decode("utf-8", "replace")


def _error_of(body: Any) -> tuple[str, str] | None:
    """Return (code, message) of the error in a body; None if it holds none."""
    error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else None
    if isinstance(error, str):
        return "", error
    if isinstance(error, dict) and error:
        code = error.get("code") or error.get("type") or ""
        return str(code), str(error.get("message") or json.dumps(error))
    return None


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY ...) names for an address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies_environment().get(parts.scheme)


_servers: weakref.WeakValueDictionary[tuple[str, str | None, int], Server]
_servers = weakref.WeakValueDictionary()
_lock = threading.Lock()


def server_for(url: str, key: Key, variable: str | None) -> Server:
    """Return the server at a URL: one, with one limiter, for all models of this process.

    Args:
        url: base address.
        key: sent with every request.
        variable: where the key was read; models with different keys share nothing.
    """
    name = (url, variable, id(loop.current()))
    with _lock:
        server = _servers.get(name)
        if server is None:
            server = _servers[name] = Server(url, key)
        return server

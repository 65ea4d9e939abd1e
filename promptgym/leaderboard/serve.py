"""Serves a built site to a browser on this machine, with the standard library's server."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from promptgym.errors import ConfigError


class _Handler(SimpleHTTPRequestHandler):
    """Sends files; says nothing of requests."""

    def end_headers(self) -> None:
        """Send headers: types are as they are said to be, pages are asked for anew."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Do nothing."""


def make_server(folder: Path, *, host: str = "127.0.0.1", port: int = 8000) -> ThreadingHTTPServer:
    """Return a server of a site that listens and does not answer yet.

    Args:
        folder: what `build_site` wrote.
        host: address to listen at.
        port: likewise; 0 takes a free one.

    Raises:
        ConfigError: if there is no site in the folder, or the address cannot be had.
    """
    if not (Path(folder) / "index.html").is_file():
        raise ConfigError(f"{folder} holds no site; make one with promptgym leaderboard build")
    try:
        return ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen at {host}:{port} ({error}); give another --port"
        ) from None


def serve_site(folder: Path, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve a site until Ctrl-C.

    Raises:
        ConfigError: see `make_server`.
    """
    with make_server(folder, host=host, port=port) as server:
        print(f"http://{host}:{server.server_port}/ (Ctrl-C stops)", flush=True)
        server.serve_forever()

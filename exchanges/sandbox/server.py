"""A sandbox venue on loopback, for the demo and for clients that cannot be given a transport."""

import socket
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

import httpx

from exchanges.sandbox.base import SandboxVenue


class Server:
    """Listens from the beginning; answers once started. Stopping also closes the connections that are kept alive."""

    def __init__(self, venue: SandboxVenue, host: str = "127.0.0.1", port: int = 0) -> None:
        self._http = _HTTPServer(venue, host, port)
        self._thread: Thread | None = None

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> Self:
        self._thread = Thread(target=self.serve_forever, name=f"sandbox {self.url}", daemon=True)
        self._thread.start()
        return self

    def serve_forever(self) -> None:
        self._http.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        if self._thread:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def serve(venue: SandboxVenue, host: str = "127.0.0.1", port: int = 0) -> Server:
    """A server for this venue; port 0 takes a free one."""
    return Server(venue, host, port)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, venue: SandboxVenue, host: str, port: int) -> None:
        self.venue = venue
        self.stopping = Event()
        self.open: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def close(self) -> None:
        self.stopping.set()
        self.server_close()
        for connection in tuple(self.open):
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients go away, that is no news
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def handle_any(self) -> None:
        response = self._ask()
        if response is None:
            self.close_connection = True
            return
        announced = int(response.headers.get("content-length", len(response.content)))
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            if name != "content-length":
                self.send_header(name, value)
        self.send_header("content-length", str(announced))
        self.end_headers()
        self.wfile.write(response.content)
        if announced > len(response.content):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = handle_any

    def _ask(self) -> httpx.Response | None:
        """The venue's response; None when it hangs up."""
        venue = self.server.venue
        host, port = self.server.server_address[:2]
        request = httpx.Request(
            self.command,
            f"http://{host!s}:{port}{self.path}",
            headers=self.headers.items(),
            content=self.rfile.read(int(self.headers.get("content-length", 0))),
            extensions={"client": self.client_address[0]},
        )
        time.sleep(venue.latency)
        try:
            return venue(request)
        except httpx.RemoteProtocolError:
            return None
        except httpx.ReadTimeout:
            self.server.stopping.wait(60)  # longer than any client waits
            return None

    def log_message(self, format: str, *args: object) -> None:
        """The venue keeps its own log."""

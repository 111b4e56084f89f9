"""A Redis on loopback that does as a test says: takes nothing new, hangs up, says what no Redis would."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

FULL = "OOM command not allowed when used memory > 'maxmemory'."
UNSAVED = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
CLOSED = "READONLY You can't write against a read only replica."
TAKES_ROOM = {"SET", "MSET", "INCRBY", "HINCRBYFLOAT"}


class FakeRedis(ThreadingTCPServer):
    """Knows the few commands that are asked here. `refusal` is what it answers to whatever takes room."""

    daemon_threads = allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"
        self.refusal = ""
        self.hangs_up = False
        self.calls = 0  # connections taken
        self.asked: list[list[bytes]] = []
        self.kept: dict[bytes, bytes] = {}
        self._listeners: Queue[socket.socket] = Queue()

    def say(self, channel: bytes, data: bytes) -> None:
        """A message to the next that subscribes, or did, to anything."""
        self._listeners.get(timeout=5).sendall(b"*3\r\n" + bulk(b"message") + bulk(channel) + bulk(data))


class _Talk(StreamRequestHandler):
    server: FakeRedis

    def handle(self) -> None:
        self.server.calls += 1
        self.queued: list[list[bytes]] | None = None  # within MULTI
        with suppress(OSError):
            while not self.server.hangs_up and (head := self.rfile.readline()):
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                self.server.asked.append(words)
                self.wfile.write(self.in_turn(words))

    def in_turn(self, words: list[bytes]) -> bytes:
        command = words[0].decode().upper()
        if self.server.refusal and command in TAKES_ROOM:
            return f"-{self.server.refusal}\r\n".encode()
        if command == "EXEC":
            queued, self.queued = self.queued or [], None
            return b"*%d\r\n" % len(queued) + b"".join(self.answer(*words) for words in queued)
        if self.queued is not None:
            self.queued.append(words)
            return b"+QUEUED\r\n"
        if command == "MULTI":
            self.queued = []
        return self.answer(*words)

    def answer(self, name: bytes, *words: bytes) -> bytes:
        kept = self.server.kept
        match name.decode().upper():
            case "GET":
                return bulk(kept.get(words[0]))
            case "MGET":
                return b"*%d\r\n" % len(words) + b"".join(bulk(kept.get(word)) for word in words)
            case "SET":
                kept[words[0]] = words[1]
            case "MSET":
                kept.update(zip(words[::2], words[1::2], strict=True))
            case "HINCRBYFLOAT":
                return bulk(words[2])
            case "DEL":
                return b":%d\r\n" % sum(kept.pop(word, None) is not None for word in words)
            case "EXISTS":
                return b":%d\r\n" % (words[0] in kept)
            case "PING":
                return b"+PONG\r\n"
            case "SUBSCRIBE":
                self.server._listeners.put(self.connection)
                return b"*3\r\n" + bulk(b"subscribe") + bulk(words[0]) + b":1\r\n"
        return b"+OK\r\n"


def bulk(data: bytes | None) -> bytes:
    return b"$-1\r\n" if data is None else b"$%d\r\n%s\r\n" % (len(data), data)


@contextmanager
def fake_redis() -> Iterator[FakeRedis]:
    with FakeRedis() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()

"""What the processes write down: one line a thing, to which request, task and run it belongs, and no secret."""

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from celery import current_task
from django.conf import settings
from django.http import HttpRequest

from volume import runlog

request_id: ContextVar[str] = ContextVar("request_id", default="")
WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{8,64}")
# One-time links and the like are longer than any name of ours; so are addresses, which are nobody's business either.
LONG = re.compile(r"[^/]{20,}")


def new_request_id(request: HttpRequest) -> str:
    """The one our proxy gave, so that its lines and ours can be laid side by side; else one of our own."""
    given = request.headers.get("X-Request-ID", "") if settings.PROXIES else ""
    return given if WELL_FORMED.fullmatch(given) else uuid4().hex


def shown(path: str) -> str:
    """A path as it may be written down: without what might let somebody in, or break the line."""
    return LONG.sub("...", quote(path))


def context() -> dict[str, Any]:
    """To what the line belongs that is written now: request, task, run."""
    found: dict[str, Any] = {"request_id": request_id.get()} if request_id.get() else {}
    if current_task and current_task.request.id:
        found |= {"task": current_task.name, "task_id": current_task.request.id}
    return {**found, **runlog.about.get()}


def message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    path = getattr(getattr(record, "request", None), "path", "")  # Django's own lines write it out
    return text.replace(path, shown(path)) if path else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what it belongs to, and the fields of `extra={"fields"}`.

    Nothing else of `extra`: Celery puts the arguments of tasks there, Django the whole request.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname, "logger": record.name, "message": message(record)}
        line |= context() | getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        belongs = context() | getattr(record, "fields", {})
        pairs = " ".join(f"{name}={value}" for name, value in belongs.items() if value != "")
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {message(record)}"
        line += f" ({pairs})" if pairs else ""
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

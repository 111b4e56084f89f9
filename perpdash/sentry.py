"""What Sentry is told of a fault of ours: where it happened and what it belongs to, and no value that was there."""

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.types import Event, Hint

# Whatever else an event carries, now or in a later version of the SDK, stays here.
OF_EVENT = ("event_id", "timestamp", "platform", "level", "logger", "release", "environment", "sdk", "transaction")
OF_EXCEPTION = ("type", "module", "mechanism")
OF_FRAME = ("filename", "abs_path", "module", "function", "lineno", "in_app", "pre_context", "context_line",
            "post_context")  # fmt: skip
OF_MECHANISM = ("type", "handled")
CAREFUL = ("perpdash", "django", "celery")  # loggers whose messages, before values are put in, are words of the source


def start(dsn: str, *, environment: str, release: str, **options: Any) -> None:
    """Reports faults from here on. Nothing is sent but what `scrubbed` lets through; `options` are for tests."""
    sentry_sdk.init(
        dsn,
        environment=environment,
        release=release,
        default_integrations=False,  # some would tell venues of Sentry, and Sentry of what venues are asked
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda pending, timeout: None),  # the default one talks to the terminal
            CeleryIntegration(propagate_traces=False),
            DedupeIntegration(),
            DjangoIntegration(signals_spans=False),
            ExcepthookIntegration(),
            LoggingIntegration(level=None),
            ThreadingIntegration(propagate_scope=False),
        ],
        before_send=scrubbed,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        trace_propagation_targets=[],
        **options,
    )


def scrubbed(event: Event, hint: Hint) -> Event | None:
    """The event without a request, a variable, an argument or a text of an exception: a key may be in any of them.

    None for trouble of our database or Redis: that is no fault of the code, and /health/ready tells it.
    """
    from perpdash.logs import context  # not before there are settings
    from volume import trouble

    if trouble.words(hint.get("exc_info", (None, None, None))[1]):
        return None
    told: dict[str, Any] = chosen(event, OF_EVENT)
    told["tags"] = {name: str(value) for name, value in context().items()}
    template = event.get("logentry", {}).get("message")
    if template and str(event.get("logger")).split(".")[0] in CAREFUL:
        told["logentry"] = {"message": template}
    if exceptions := event.get("exception", {}).get("values"):
        told["exception"] = {"values": [_exception(one) for one in exceptions]}
    return told  # type: ignore[return-value]


def _exception(one: dict[str, Any]) -> dict[str, Any]:
    found = chosen(one, OF_EXCEPTION)
    found["mechanism"] = chosen(found.get("mechanism") or {}, OF_MECHANISM)
    frames = (one.get("stacktrace") or {}).get("frames") or []
    return found | {"stacktrace": {"frames": [chosen(frame, OF_FRAME) for frame in frames]}}


def chosen(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}

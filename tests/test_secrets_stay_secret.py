"""Marked secrets are planted in accounts of every venue, all that can be done is done, in any weather; then everything
that left the process or stayed behind is searched for them: whole, or written as base64, hexadecimal or a number."""

import gzip
import io
import json
import logging
import sqlite3
import warnings
import zipfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sentry_sdk
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client, override_settings
from django.urls import reverse
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from exchanges.models import ExchangeCredential, HeldRow, SyncRun
from exchanges.sandbox import Sandbox, bybit, hyperliquid, paradex, woox
from exchanges.sandbox.server import serve
from perpdash import sentry
from perpdash.celery import app as celery_app
from perpdash.logs import JsonFormatter, TextFormatter
from tests import factories
from tests.conftest import NOW
from volume.api_urls import router
from volume.tasks import fetch_figures_of, prove_account, refresh_credential, refresh_due

pytestmark = pytest.mark.django_db(transaction=True)

HISTORY = NOW - timedelta(days=3)
QUEUE = celery_app.conf.task_default_queue
BYBIT = {"api_key": "MARKbybitKey00001", "api_secret": "MARKbybitSecret00001abcdefghijklmnop"}
BYBIT_NEXT = {"api_key": "MARKbybitKey00002", "api_secret": "MARKbybitSecret00002abcdefghijklmnop"}
BYBIT_TRADING = {"api_key": "MARKbybitKey00003", "api_secret": "MARKbybitSecret00003abcdefghijklmnop"}
WOOX = {"api_key": "MARKwooxKey000000001A==", "api_secret": "MARKWOOXSECRET00000000000001"}
SUBKEY = {"account": paradex.DEMO_MAIN, "subkey": hex(paradex.DEMO_SUBKEY)}
TYPED = {"api_key": "MARKtypedKey000001", "api_secret": "MARKtypedSecret00001abcdefghijklmnop"}  # never stored
NEWER_SALT = "a newer salt, long enough to be one"
PRIVATE_KEY = "0x" + "5ec2e7" * 10 + "beef"  # of a wallet, pasted where its address belongs


# --- What is searched ------------------------------------------------------------------------------------------------


def spellings(secret: str) -> set[bytes]:
    """How a secret may be written without being hidden."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for shift in range(3):  # what stands before it decides how base64 cuts it up; its edges depend on its neighbours
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(b"\0" * shift + raw).rstrip(b"=")[4:-4])
    if secret.startswith("0x"):
        number = int(secret, 16)
        found |= {secret[2:].encode(), str(number).encode(), number.to_bytes(32, "big"), secret[2:].upper().encode()}
    return found


class Watch:
    """Keeps what was seen, by where it was seen, and searches it together with what stays behind."""

    def __init__(self, path: Path | None) -> None:
        self.path = path  # of the database, where that is a file
        self.secrets: set[str] = set()
        self.seen: dict[str, list[bytes]] = {"answers": [], "output": [], "logs": [], "tasks": [], "sentry": []}

    def add(self, secrets: dict[str, str]) -> dict[str, str]:
        """These are to be searched for from now on, except what is public of them."""
        marked = {text for name, text in secrets.items() if name not in ("host", "account", "address")}
        assert all(len(text) >= 16 for text in marked), "what is shorter is found by chance"
        self.secrets |= marked
        return secrets

    def note(self, where: str, what: str | bytes) -> None:
        self.seen[where].append(what.encode(errors="backslashreplace") if isinstance(what, str) else what)

    def everything(self) -> dict[str, bytes]:
        self.seen["tasks"] += messages()
        found = {where: b"\n".join(pieces) for where, pieces in self.seen.items()}
        found["cache"] = b"\n".join(cached())
        found["admin history"] = repr(list(LogEntry.objects.values_list())).encode()
        found["error mails"] = b"\n".join(bytes(one.message()) + one.body.encode() for one in mail.outbox)
        found["tables"] = repr(list(rows())).encode()
        if self.path:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                assert cursor.fetchone()[0] == 0
            found["database file"] = self.path.read_bytes()
        return found

    def leaks(self) -> dict[str, set[str]]:
        """Where which secrets were found."""
        found: dict[str, set[str]] = {}
        for where, content in self.everything().items():
            lowered = content.lower()
            told = {
                secret
                for secret in self.secrets
                if any(spelling in content for spelling in spellings(secret)) or secret.lower().encode() in lowered
            }
            if told:
                found[where] = told
        return found


def messages() -> Iterator[bytes]:
    """What waits for a worker, as the broker has it; the queue is empty then."""
    with celery_app.connection_for_read() as broker:
        channel = broker.default_channel
        for message in iter(lambda: channel.basic_get(QUEUE, no_ack=True), None):
            body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            yield body + repr((message.headers, message.properties, message.decode())).encode()


def cached() -> Iterator[bytes]:
    """Keys and values, as every cache is given them."""
    for key, value in cache._cache.items():
        yield key.encode() + value


def rows() -> Iterator[tuple[Any, ...]]:
    """Every column of every row of every table."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            yield from cursor.fetchall()


class Listener(logging.Handler):
    """Writes down each line with its traceback, arguments included."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.DEBUG)
        self.watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        self.watch.note("logs", f"{record.name} {self.format(record)} {record.msg!r} {record.args!r}")
        for formatter in (JsonFormatter(), TextFormatter()):
            self.watch.note("logs", formatter.format(record))


class Wire(Transport):
    """What would be sent to Sentry."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def capture_envelope(self, envelope: Envelope) -> None:
        self.watch.note("sentry", envelope.serialize())


@contextmanager
def reporting(watch: Watch) -> Iterator[None]:
    """Every fault to Sentry."""
    sentry.start("http://key@127.0.0.1:1/1", environment="test", release="perpdash@0", transport=Wire(watch))
    try:
        yield
    finally:
        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.get_global_scope().set_client(None)


@contextmanager
def listening(watch: Watch) -> Iterator[None]:
    """Every logger of the process at DEBUG."""
    listener = Listener(watch)
    known = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [(one, one.level, one.disabled) for one in (logging.root, *known)]
    deaf = [one for one, *_ in before if one is logging.root or not one.propagate]
    try:
        for one, *_ in before:
            one.setLevel(logging.DEBUG)
            one.disabled = False
        for one in deaf:
            one.addHandler(listener)
        connection.force_debug_cursor = True  # else the database says nothing
        yield
    finally:
        connection.force_debug_cursor = False
        for one in deaf:
            one.removeHandler(listener)
        for one, level, disabled in before:
            one.setLevel(level)
            one.disabled = disabled


class WatchedClient(Client):
    """A browser that shows everything it is sent. A fault of ours is its 500 page, not an exception."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(raise_request_exception=False)
        self.watch = watch

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a download is made for servers that await it
            content = b"".join(response) if response.streaming else response.content
        self.watch.note("answers", f"{response.status_code} {response.headers}")
        self.watch.note("answers", content)
        for name, text in unpacked(content):
            self.watch.note("answers", name.encode() + text)
        return response


def unpacked(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content.startswith(b"\x1f\x8b"):
        yield "", gzip.decompress(content)
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)


# --- The installation ------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path | None]:
    """A database that keeps what it is told: the file it is, or None where it is no file of ours."""
    tests_own = connections["default"]
    if tests_own.vendor != "sqlite":
        yield None
        return
    path = tmp_path / "perpdash.sqlite3"
    tests_own.ensure_connection()
    file = sqlite3.connect(path)
    tests_own.connection.backup(file)
    file.close()
    connections["default"] = type(tests_own)(tests_own.settings_dict | {"NAME": str(path)}, "default")
    yield path
    connections["default"].close()
    connections["default"] = tests_own


@pytest.fixture
def watch(database: Path | None, settings: Any) -> Iterator[Watch]:
    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "secrets"}
    settings.CACHES = {"default": locmem}  # one of this test's own, to be looked into
    cache.clear()
    list(messages())  # what others left waiting is no business of this one
    settings.ADMINS = [("Ops", "ops@example.org")]  # so that faults are reported by mail too
    made = Watch(database)
    with listening(made), reporting(made):
        yield made
    cache.clear()


@pytest.fixture
def venues(watch: Watch, sandbox: Sandbox) -> Sandbox:
    """Each venue knows the marked keys."""
    factories.shorten(sandbox, days=3, now=NOW)
    give_bybit(sandbox, watch.add(BYBIT))
    main = sandbox.woox.accounts[woox.DEMO_MAIN]
    main.keys = (woox.Key(api_key=WOOX["api_key"], secret=WOOX["api_secret"]),)
    for secrets in (WOOX, SUBKEY, TYPED, BYBIT_NEXT, BYBIT_TRADING, {"private_key": PRIVATE_KEY}):
        watch.add(secrets)
    return sandbox


def give_bybit(sandbox: Sandbox, secrets: dict[str, str], **powers: Any) -> None:
    known = sandbox.bybit.accounts[bybit.MAIN_UID]
    known.keys = (bybit.Key(secrets, ips=(bybit.LOCAL,), created_at=NOW, **powers),)


@pytest.fixture
def ada(venues: Sandbox) -> Any:
    return factories.user("ada", is_staff=True, is_superuser=True)


@pytest.fixture
def client(ada: Any, watch: Watch, settings: Any) -> WatchedClient:
    settings.SESSION_COOKIE_AGE = 10**8  # the weather lasts for weeks
    made = WatchedClient(watch)
    made.force_login(ada)
    return made


def manage(watch: Watch, *arguments: str, typed: str = "", monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Runs a command; what it says is seen, whichever way it ends."""
    out = io.StringIO()
    if monkeypatch:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    try:
        call_command(*arguments, stdout=out, stderr=out)
    except (CommandError, SystemExit) as end:
        watch.note("output", str(end))
    watch.note("output", out.getvalue())


def work(watch: Watch, task: Any, *arguments: Any) -> None:
    """As a worker does it, with Celery's own words on how it ended."""
    watch.seen["tasks"] += messages()
    result = task.apply(arguments)
    watch.note("tasks", f"{result.result!r} {result.traceback}")


def post(client: WatchedClient, path: str, values: Any, method: str = "post") -> Any:
    return getattr(client, method)(path, json.dumps(values), content_type="application/json")


# --- What is done ----------------------------------------------------------------------------------------------------


def add_accounts(client: WatchedClient, watch: Watch, venues: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at each venue, through every door there is, and what each door refuses."""
    token = {"token": venues.paradex.token(paradex.DEMO_MAIN)}
    watch.secrets |= {token["token"], token["token"].rpartition(".")[2]}
    add, api = reverse("volume:add", args=["bybit"]), "/api/v1/credentials/"
    admin = reverse("admin:exchanges_exchangecredential_add")

    for values in (BYBIT | {"label": ""}, TYPED | {"label": "Typed"}, {"label": "Half", "api_secret": "MARK half"}):
        client.post(add, values)
    give_bybit(venues, BYBIT_TRADING, read_only=False)
    client.post(add, BYBIT_TRADING | {"label": "Bot"})
    give_bybit(venues, BYBIT)
    venues.bybit.fail(status=502, times=9)
    client.post(add, BYBIT | {"label": "Main"})
    venues.bybit.heal()
    assert client.post(add, BYBIT | {"label": "Main"}).status_code == 302

    wallet = reverse("volume:add", args=["hyperliquid"])
    post(client, api, {"venue": "hyperliquid", "label": "Wallet", "secrets": {"address": PRIVATE_KEY}})
    assert client.post(wallet, {"label": "Wallet", "address": hyperliquid.DEMO_TRADER}).status_code == 302

    post(client, api, {"venue": "woox", "label": "Main", "secrets": TYPED})
    post(client, api, {"venue": "woox", "label": "Main", "secrets": json.dumps(WOOX)})
    client.post(api, '{"secrets": ' + json.dumps(WOOX)[:-3], content_type="application/json")
    assert post(client, api, {"venue": "woox", "label": "Main", "secrets": WOOX}).status_code == 201

    form = {"owner": client.session["_auth_user_id"], "venue": "paradex", "label": "Main", "is_enabled": "on"}
    for typed in (json.dumps(TYPED), json.dumps(token)[:-1], token["token"]):
        assert client.post(admin, form | {"new_secrets": typed}).status_code == 200
    assert client.post(admin, form | {"new_secrets": json.dumps(token)}).status_code == 302

    factories.user("eve")
    command = ("add_credential", "paradex", "--owner", "eve", "--label", "Bot")
    for typed in (json.dumps(SUBKEY)[:-1], json.dumps(SUBKEY), json.dumps(TYPED)):
        manage(watch, *command, typed=typed, monkeypatch=monkeypatch)
    manage(watch, *command, "--allow-trading-key", typed=json.dumps(SUBKEY), monkeypatch=monkeypatch)
    ExchangeCredential.objects.update(history_from=HISTORY)
    assert ExchangeCredential.objects.count() == 5, ExchangeCredential.objects.all()


def echo(request: httpx.Request) -> bytes:
    """All that was sent, as a venue might repeat it in a complaint of whatever form."""
    sent = json.dumps({"url": str(request.url), "headers": dict(request.headers), "body": request.content.decode()})
    complaint = {"retMsg": sent, "message": sent, "error": sent, "data": sent, "result": {"list": [sent]}}
    return json.dumps(complaint | {"success": False, "retCode": 98765, "code": 98765, "meta": {"why": sent}}).encode()


def fall_over() -> None:
    raise ZeroDivisionError("a bug in the middle")


def read_in_any_weather(watch: Watch, venues: Sandbox, clock: Any, client: WatchedClient) -> None:
    """Every account, with a fault of each kind in the middle; and pages looked at while it is so."""

    def echoing(status: int) -> Any:
        return lambda request, answer: httpx.Response(status, content=echo(request))

    def mistake(request: httpx.Request, answer: Any) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {request.headers!r}", request=request)

    for account in ExchangeCredential.objects.order_by("pk"):
        venue = venues.venues[account.venue]
        weather = [
            lambda venue=venue: venue.fail(status=502), lambda venue=venue: venue.html(times=None),
            lambda venue=venue: venue.truncate(times=None), lambda venue=venue: venue.time_out(times=None),
            lambda venue=venue: venue.hang_up(times=None), lambda venue=venue: venue.rate_limit(times=None),
            lambda venue=venue: venue.maintain(times=None), lambda venue=venue: venue.after(1, fall_over),
            lambda venue=venue: venue._order(mistake, None),
            *(lambda venue=venue, status=status: venue._order(echoing(status), None)
              for status in (200, 400, 401, 403, 404, 429, 500)),
        ]  # fmt: skip
        for number, fault in enumerate(weather):
            clock.move(2 * 24 * 3600 if number % 5 == 4 else 1000)  # the key is examined again now and then
            ExchangeCredential.objects.filter(pk=account.pk).update(due_at=clock.now(), health_state="new")
            fault()
            work(watch, refresh_credential, account.pk)
            work(watch, fetch_figures_of, account.pk)
            client.post(reverse("volume:act", args=[account.pk, "verify"]))
            venue.heal()
        look_around(client, account)
        clock.move(1000)
        ExchangeCredential.objects.filter(pk=account.pk).update(due_at=clock.now(), health_state="new")
        work(watch, refresh_credential, account.pk)
        account.refresh_from_db()
        assert account.health_state == "works", (account, account.health_text)
        assert account.fills.exists()
    outcomes = set(SyncRun.objects.values_list("outcome", flat=True))
    assert {"complete", "unavailable", "rejected", "failed"} <= outcomes, outcomes


def lose_keys_and_put_in_new_ones(watch: Watch, venues: Sandbox, clock: Any, client: WatchedClient) -> None:
    """At the venue, and here."""
    account = ExchangeCredential.objects.get(venue="bybit")
    key = reverse("volume:key", args=[account.pk])
    give_bybit(venues, BYBIT_NEXT)
    clock.move(1000)
    ExchangeCredential.objects.update(due_at=clock.now())
    work(watch, refresh_credential, account.pk)
    account.refresh_from_db()
    assert account.health_state == "rejected"
    client.get(key)
    client.post(key, TYPED)
    post(client, f"/api/v1/credentials/{account.pk}/", {"secrets": TYPED}, "patch")
    assert client.post(key, BYBIT_NEXT).status_code == 302
    assert post(client, f"/api/v1/credentials/{account.pk}/", {"secrets": BYBIT_NEXT}, "patch").status_code == 200
    change = reverse("admin:exchanges_exchangecredential_change", args=[account.pk])
    values = {"label": "Desk", "is_enabled": "on", "is_backfilling": "on"}
    client.post(change, values | {"new_secrets": json.dumps(TYPED)})
    assert client.post(change, values | {"new_secrets": json.dumps(BYBIT_NEXT)}).status_code == 302
    assert LogEntry.objects.exists()

    with override_settings(SALT_KEY=["a salt that opens nothing here at all"]):
        work(watch, refresh_credential, account.pk)
        for one in ExchangeCredential.objects.all():
            client.post(reverse("volume:act", args=[one.pk, "verify"]), follow=True)
            look_around(client, one)
        manage(watch, "doctor")
        manage(watch, "rotate_secrets")
        manage(watch, "reparse_held")
    work(watch, refresh_due)


def look_around(client: WatchedClient, account: ExchangeCredential) -> None:
    """Every page and list there is, for one account."""
    for name in ("dashboard", "series", "accounts", "choose-venue", "data", "preferences"):
        client.get(reverse(f"volume:{name}"))
    for name in ("account", "key", "fills", "remove"):
        client.get(reverse(f"volume:{name}", args=[account.pk]))
    for prefix, *_ in router.registry:
        client.get(f"/api/v1/{prefix}/")
    is_hers = account.owner_id == int(client.session["_auth_user_id"])
    assert client.get(f"/api/v1/credentials/{account.pk}/").status_code == (200 if is_hers else 404)
    for model in ("exchangecredential", "syncrun", "heldrow", "coverage"):
        client.get(reverse(f"admin:exchanges_{model}_changelist"))
    for name in ("change", "history", "delete"):
        client.get(reverse(f"admin:exchanges_exchangecredential_{name}", args=[account.pk]))


def use_everything(watch: Watch, client: WatchedClient, tmp_path: Path) -> None:
    """The rest of the pages, the API, the admin and the commands, exports and copies included."""
    for account in ExchangeCredential.objects.filter(owner__username="ada"):
        detail = f"/api/v1/credentials/{account.pk}/"
        for action in ("verify", "sync", "backfill", "reread", "stop"):
            client.post(f"{detail}{action}/")
        for action in ("verify", "sync", "backfill", "stop", "pause", "resume"):
            client.post(reverse("volume:act", args=[account.pk, action]), follow=True)
        work(watch, prove_account, account.pk)
    listed = reverse("admin:exchanges_exchangecredential_changelist")
    chosen = [str(pk) for pk in ExchangeCredential.objects.values_list("pk", flat=True)]
    for action in ("verify_now", "sync_now", "backfill_now", "delete_selected"):
        client.post(listed, {"action": action, "_selected_action": chosen}, follow=True)
    for path in ("/data/export/", "/api/v1/export/", "/api/v1/schema/", "/api/v1/docs/", "/admin/", "/no-such-page/",
                 "/metrics"):  # fmt: skip
        client.get(path)
        client.get(path, headers={"accept-encoding": "gzip"})
    client.options("/api/v1/credentials/")
    exported = tmp_path / "export.zip"
    manage(watch, "export_data", "--owner", "ada", "--output", str(exported))
    for name, text in unpacked(exported.read_bytes()):
        watch.note("output", name.encode() + text)
    for command in (
        ["volume", "--format", "json"], ["check_volume"], ["rebuild_volume"], ["reparse_held"], ["doctor"],
        ["backfill", "--json"], ["dumpdata"], ["dumpdata", "exchanges.ExchangeCredential"],
    ):  # fmt: skip
        manage(watch, *command)


def rotate(watch: Watch, settings: Any) -> None:
    """To a key of its own, and then without the old one."""
    settings.SALT_KEY = [NEWER_SALT, *settings.SALT_KEY]
    manage(watch, "doctor")
    manage(watch, "rotate_secrets")
    settings.SALT_KEY = [NEWER_SALT]
    manage(watch, "doctor")


def test_after_everything_was_done_in_any_weather_no_secret_is_found_anywhere(
    watch: Watch, venues: Sandbox, client: WatchedClient, clock: Any, settings: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    add_accounts(client, watch, venues, monkeypatch)
    read_in_any_weather(watch, venues, clock, client)
    lose_keys_and_put_in_new_ones(watch, venues, clock, client)
    use_everything(watch, client, tmp_path)
    rotate(watch, settings)
    watch.secrets |= set(venues.paradex.tokens) - {paradex.DEMO_TOKEN}  # also what the venue gave out when signed in
    assert watch.leaks() == {}
    seen = watch.everything()
    assert all(
        seen[where] for where in ("answers", "output", "logs", "tasks", "sentry", "cache", "admin history", "tables")
    )
    for name in (b"django.db.backends", b"celery.app.trace", b"httpx", b"django.request", b"perpdash"):
        assert name in seen["logs"], name
    account = ExchangeCredential.objects.get(venue="bybit")
    assert account.open_secrets().api_secret == BYBIT_NEXT["api_secret"]


def fall_over_at_every_door(client: WatchedClient, venues: Sandbox) -> None:
    """A bug of ours, while a secret is in what was sent."""
    account = factories.credential("bybit", label="Stored", secrets=dict(BYBIT))
    api, ours = "/api/v1/credentials/", {"venue": "bybit", "label": "Bug"}
    typed = {f"secrets.{name}": text for name, text in BYBIT_NEXT.items()}
    admin = ours | {"owner": account.owner_id, "is_enabled": "on", "new_secrets": json.dumps(BYBIT_NEXT)}
    doors = [
        lambda: client.post(reverse("volume:add", args=["bybit"]), BYBIT_NEXT | ours),
        lambda: client.post(reverse("volume:key", args=[account.pk]), BYBIT_NEXT),
        lambda: client.post(reverse("volume:act", args=[account.pk, "verify"])),
        lambda: client.post(reverse("admin:exchanges_exchangecredential_add"), admin),
        lambda: client.post(reverse("admin:exchanges_exchangecredential_change", args=[account.pk]), admin),
        lambda: client.post(api, ours | typed),
        lambda: post(client, api, ours | {"secrets": BYBIT_NEXT}),
        lambda: post(client, f"{api}{account.pk}/", {"secrets": BYBIT_NEXT}, "patch"),
        lambda: client.post(f"{api}{account.pk}/verify/"),
    ]
    for door in doors:
        venues.bybit.after(0, fall_over)
        assert door().status_code == 500
        venues.bybit.heal()


@pytest.mark.parametrize("debug", [False, True], ids=["in use", "in development"])
def test_a_fault_of_ours_is_reported_without_the_secrets_it_happened_with(watch, venues, client, debug):
    with override_settings(DEBUG=debug):
        fall_over_at_every_door(client, venues)
    seen = watch.everything()
    assert b"ZeroDivisionError" in seen["logs"]
    assert b"ZeroDivisionError" in seen["answers" if debug else "error mails"]
    assert b"ZeroDivisionError" in seen["sentry"]
    assert watch.leaks() == {}


def test_a_private_key_pasted_where_an_address_belongs_is_not_sent_back(watch, client):
    for typed in (PRIVATE_KEY, PRIVATE_KEY[2:]):
        response = client.post(reverse("volume:add", args=["hyperliquid"]), {"label": "Wallet", "address": typed})
        assert b"the length of a private key" in response.content
    assert watch.leaks() == {}


def test_the_wire_itself_writes_no_key_into_a_log(watch, venues, clock, settings):
    """Through real sockets, where httpcore has its say as well."""
    account = factories.credential("bybit", secrets=dict(BYBIT), history_from=HISTORY)
    app = apps.get_app_config("exchanges")
    with serve(venues.bybit) as server:
        app.sandbox = None
        settings.VENUE_URLS = settings.VENUE_URLS | {"bybit": server.url}
        work(watch, refresh_credential, account.pk)
        clock.move(1000)
        ExchangeCredential.objects.update(due_at=clock.now())
        venues.bybit._order(lambda request, answer: httpx.Response(400, content=echo(request)), None)
        work(watch, refresh_credential, account.pk)
    assert account.fills.exists()
    assert account.runs.first().outcome == "unavailable"
    assert b"httpcore" in watch.everything()["logs"]
    assert watch.leaks() == {}


# --- Whether a leak would be found -----------------------------------------------------------------------------------

LEAK = "MARKleak00001abcdefghijklmnop"


def leak_into_log(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    logging.getLogger("httpcore.http11").debug("sent with %s", text)


def leak_into_sentry(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    logging.getLogger("perpdash").error(f"with {text}")


def leak_into_traceback(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("perpdash.refresh").exception("A reading failed")


def leak_into_answer(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    ExchangeCredential.objects.update(label=text)
    client.get(reverse("volume:accounts"))


def leak_into_export(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    HeldRow.objects.create(credential=account, stream="fills", digest="1", raw=text, why="?", seen_at=NOW)
    client.get("/data/export/")


def leak_into_run(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    SyncRun.objects.create(credential=account, started_at=NOW, since=NOW, until=NOW, message=f"With {text}")


def leak_into_health(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    ExchangeCredential.objects.update(health_text=f"{text} is not accepted.")


def leak_into_task(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    refresh_credential.apply_async((text,))


def leak_into_cache(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    cache.set("venue/1", {"headers": [text]})


def leak_into_history(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    LogEntry.objects.create(user=account.owner, action_flag=2, object_repr="x", change_message=f'["{text}"]')


def leak_into_mail(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    mail.mail_admins("A fault", f"POST: api_secret = {text}")


def leak_into_output(client: WatchedClient, account: ExchangeCredential, text: str) -> None:
    ExchangeCredential.objects.update(health_state="rejected", health_text=text)
    manage(client.watch, "doctor")


@pytest.mark.parametrize("spell", [str, lambda text: b64encode(f"a{text}b".encode()).decode(),
                                   lambda text: text.encode().hex()], ids=["plain", "base64", "hex"])  # fmt: skip
@pytest.mark.parametrize(
    ("leak", "where"),
    [
        (leak_into_log, "logs"),
        (leak_into_sentry, "sentry"),
        (leak_into_traceback, "logs"),
        (leak_into_answer, "answers"),
        (leak_into_export, "answers"),
        (leak_into_run, "tables"),
        (leak_into_health, "tables"),
        (leak_into_task, "tasks"),
        (leak_into_cache, "cache"),
        (leak_into_history, "admin history"),
        (leak_into_mail, "error mails"),
        (leak_into_output, "output"),
    ],
)
def test_a_planted_leak_is_found(watch, client, ada, leak, where, spell):
    account = factories.credential("bybit", owner=ada, secrets=watch.add({"api_key": LEAK[::-1], "api_secret": LEAK}))
    assert watch.leaks() == {}
    leak(client, account, spell(LEAK))
    found = watch.leaks()
    assert found.pop(where) == {LEAK}
    # What the database was told, it and its log tell too.
    assert set(found) <= {"logs", "tables", "database file", "admin history"}


def test_the_bytes_of_the_database_file_are_searched_too(watch, client, ada):
    if watch.path is None:
        pytest.skip("the server's files are not ours to read: only a SQLite database is a file of this installation")
    account = factories.credential("bybit", owner=ada, secrets=watch.add({"api_key": LEAK[::-1], "api_secret": LEAK}))
    leak_into_run(client, account, LEAK)
    assert watch.leaks()["database file"] == {LEAK}

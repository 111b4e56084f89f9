"""What is one person's is nobody else's: every route, method, parameter, field, socket and task, walked as found.

Ada asks; Bob owns. Both have one row of every kind there is, made from the models themselves; all of Bob's have the
same number and bear his mark. Nothing here lists what is safe: what is new is walked as soon as it exists, and what the
walk does not know how to walk fails it.
"""

import io
import json
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from cryptography.hazmat.primitives.asymmetric import ec
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.http import int_to_base36
from drf_spectacular.generators import SchemaGenerator
from fido2.cose import ES256
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorAttestationResponse,
    AuthenticatorData,
    CollectedClientData,
    RegistrationResponse,
)
from rest_framework.serializers import BaseSerializer

from accounts.models import ApiToken
from exchanges.models import ExchangeCredential, Health
from exchanges.sandbox import hyperliquid
from perpdash.asgi import application
from perpdash.celery import app as celery_app
from tests import factories
from tests.conftest import NOW
from volume import live
from volume.account_views import ACTIONS
from volume.export import pieces
from volume.urls import websocket_urlpatterns

# In one process, one after the other: on a shared Redis what is pushed to an owner reaches every socket of that number.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("isolation")]

User = get_user_model()
OURS = {"accounts", "exchanges", "volume", "perpdash"}
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


# --- Two people, with one row of everything each ---------------------------------------------------------------------


class Person(NamedTuple):
    name: str
    number: int  # of each of their rows
    amount: Decimal  # in each of their sums
    address: str

    @property
    def mark(self) -> str:
        return f"{self.name}mark"


ADA = Person("ada", 550055, Decimal("55055055.55"), hyperliquid.DEMO_TRADER)
BOB = Person("bob", 770077, Decimal("77077077.77"), hyperliquid.DEMO_SUB)


def way_to_owner(model: type[models.Model]) -> str | None:
    """The chain of foreign keys to the person a row belongs to; None where rows are everybody's."""
    ways: list[tuple[str, type[models.Model]]] = [("", model)]
    seen = {model}
    while ways:
        way, at = ways.pop(0)
        for field in at._meta.concrete_fields:
            target = field.related_model
            if not isinstance(field, models.ForeignKey) or target in seen or field.name == "used_by":
                continue
            name = f"{way}{field.name}"
            if target is User:
                return name
            seen.add(target)
            ways.append((f"{name}__", target))
    return None


OWNED = {
    model: way
    for model in apps.get_models()
    if model is not User and not model._meta.label.startswith(("admin.", "auth.")) and (way := way_to_owner(model))
}
EVERYBODYS = {"volume.AssetPrice"}  # what belongs to nobody: public facts


def test_every_model_belongs_to_somebody_or_is_public() -> None:
    of_nobody = {
        model._meta.label for model in apps.get_models() if model._meta.app_label in OURS and model not in OWNED
    }
    assert of_nobody - {User._meta.label} == EVERYBODYS


def plant(person: Person) -> Any:
    """The person, and a row of theirs in every table."""
    owner = User.objects.create(pk=person.number, username=person.name, email=f"{person.mark}@example.org")
    made: dict[type[models.Model], Any] = {User: owner}
    account = factories.credential(
        owner=owner, label=f"{person.mark} account", secrets={"address": person.address}, pk=person.number,
        history_from=NOW - timedelta(days=3), description=person.mark, due_at=NOW + timedelta(days=1),
        related=[{"label": f"{person.mark} sub", "values": {"address": f"0x{person.mark}"}}],
    )  # fmt: skip
    made[ExchangeCredential] = account
    for model in OWNED:
        if model not in made:
            _plant(model, person, made)
    return owner


def _passkey(person: Person) -> dict[str, Any]:
    """What a browser answers when a passkey is made."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    made = AttestedCredentialData.create(bytes(16), person.mark.encode(), ES256.from_cryptography_key(public))
    seen = AuthenticatorData.create(bytes(32), AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT, 0, made)
    client = CollectedClientData.create(CollectedClientData.TYPE.CREATE, bytes(16), "http://testserver")
    answer = AuthenticatorAttestationResponse(
        client_data=client, attestation_object=AttestationObject.create("none", seen, {})
    )
    credential = dict(RegistrationResponse(raw_id=person.mark.encode(), response=answer))
    return {"name": f"{person.mark} key", "credential": json.loads(json.dumps(credential))}


# Where a row made of anything would not be one.
AS_IT_IS: dict[str, Callable[[Person], dict[str, Any]]] = {
    "mfa.Authenticator": lambda person: {"type": "webauthn", "data": _passkey(person)},
}


def _plant(model: type[models.Model], person: Person, made: dict[type[models.Model], Any]) -> Any:
    if model in made:
        return made[model]
    row = model()
    for field in model._meta.concrete_fields:
        if isinstance(field, models.ForeignKey):
            target = field.related_model
            if not field.null or target in made:
                setattr(row, field.name, made.get(target) or _plant(target, person, made))
        else:
            setattr(row, field.attname, _value(field, person))
    if make := AS_IT_IS.get(model._meta.label):
        for name, value in make(person).items():
            setattr(row, name, value)
    row.save(force_insert=True)
    made[model] = row
    return row


def _value(field: models.Field, person: Person) -> Any:
    if field.primary_key:
        return person.number if isinstance(field, models.IntegerField) else f"{person.mark}{person.number}"
    if field.choices:
        return field.choices[0][0]
    if isinstance(field, models.BooleanField):
        return False
    if isinstance(field, models.DateTimeField):
        return NOW + timedelta(hours=1) if field.name in {"until_at", "expires_at"} else NOW - timedelta(hours=1)
    if isinstance(field, models.DateField):
        return NOW.date()
    if isinstance(field, models.JSONField):
        return field.get_default() or {}
    if isinstance(field, models.UUIDField):
        return uuid.uuid4()
    if isinstance(field, models.GenericIPAddressField):
        return "203.0.113.77"
    if type(field).__name__ in {"UsdField", "ExactDecimalField", "DecimalField"}:
        return person.amount
    if isinstance(field, (models.IntegerField, models.FloatField)):
        return 1
    if isinstance(field, (models.CharField, models.TextField)):
        if field.name in {"quote", "fee_asset"}:
            return "USDC"
        return f"{person.mark} {field.name}"[: field.max_length or 100]
    raise AssertionError(f"say what {field} of {field.model._meta.label} holds")


def rows_of(person: Person) -> dict[str, list[Any]]:
    """All that is a person's, but what looking at it changes."""
    kept = {User._meta.label: list(User.objects.filter(pk=person.number).order_by().values_list())}
    for model, way in OWNED.items():
        names = [field.attname for field in model._meta.concrete_fields if field.attname not in LOOKED_AT]
        kept[model._meta.label] = sorted(
            map(repr, model._default_manager.filter(**{way: person.number}).order_by().values_list(*names))
        )
    return kept


LOOKED_AT = {"last_used_at", "last_seen_at"}


@pytest.fixture
def people(sandbox: Any, clock: Any) -> dict[str, Any]:
    return {person.name: plant(person) for person in (ADA, BOB)}


def test_both_have_a_row_of_everything(people: dict[str, Any]) -> None:
    for person in (ADA, BOB):
        assert all(rows_of(person).values())
        assert rows_of(person).keys() >= {"exchanges.Fill", "volume.DailyVolume", "accounts.ApiToken"}


# --- What Ada may not see --------------------------------------------------------------------------------------------

MINE = re.compile(rf"{BOB.mark}|{BOB.number}|77077077|{BOB.address}".encode(), re.IGNORECASE)


def content(answer: Any) -> bytes:
    if not getattr(answer, "streaming", False):
        return bytes(answer.content)
    return b"".join(_pieces(answer))


def _pieces(answer: Any) -> Iterator[bytes]:
    if not answer.is_async:
        yield from answer.streaming_content
        return

    async def all_of_it() -> list[bytes]:
        return [piece async for piece in answer.streaming_content]

    yield from async_to_sync(all_of_it)()


def readable(raw: bytes) -> bytes:
    """An answer as its reader sees it: unpacked, and numbers without their commas."""
    if raw.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            raw = b"\n".join(archive.read(name) for name in archive.namelist())
    return re.sub(rb"(?<=\d),(?=\d)", b"", raw)


def others(answer: Any, sent: str = "") -> set[bytes]:
    """What of Bob's is in an answer; what Ada sent herself may come back to her."""
    found = {item.lower() for item in MINE.findall(readable(content(answer)))}
    return {item for item in found if item.decode() not in sent.lower()}


# --- Every route -----------------------------------------------------------------------------------------------------


class Route(NamedTuple):
    name: str
    template: str
    parameters: tuple[str, ...]


def routes() -> list[Route]:
    return sorted(set(_routes(get_resolver(), "", "")))


def _routes(resolver: URLResolver, path: str, space: str) -> Iterator[Route]:
    for pattern in resolver.url_patterns:
        template, parameters = _template(pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            for route in _routes(pattern, path + template, inner):
                yield route._replace(parameters=parameters + route.parameters)
        else:
            yield Route(f"{space}{pattern.name}", path + template, parameters)


def _template(pattern: URLPattern | URLResolver) -> tuple[str, tuple[str, ...]]:
    """The address with {name} for each parameter, from either of Django's two ways to write it."""
    inner = pattern.pattern
    if hasattr(inner, "_route"):
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(inner._route)), tuple(inner.converters)
    text = str(inner._regex).lstrip("^").rstrip("$").replace(r"\Z", "")
    names = tuple(re.findall(r"\(\?P<(\w+)>", text))
    for name in names:
        text = re.sub(rf"\(\?P<{name}>(?:[^()]|\([^()]*\))*\)", f"{{{name}}}", text)
    return re.sub(r"[?\\]", "", text), names


# What stands in an address. A parameter that names a row is Bob's number; a new one has to be entered here.
ARGUMENTS: dict[str, list[str]] = {
    "pk": [str(BOB.number)],
    "action": sorted(ACTIONS),
    "venue": ["hyperliquid"],
    "day": [NOW.date().isoformat()],
    "token": ["not-the-token"],
    "key": ["not-the-key"],
    "uidb36": [int_to_base36(BOB.number)],
}
# Doors everybody stands before, whoever's they are: what they answer tells nothing of what is behind.
DOORS = {"accounts:link"}
# Only the owner of the installation has these, for everybody's sign-in: all others are told 403, whatever is there.
OWNERS = {"accounts:people", "accounts:shut-out", "accounts:let-in", "accounts:revoke"}
OPERATORS = ("admin:",)  # Django's admin is for who runs the installation; below, nobody else gets in


def addresses(route: Route) -> Iterator[str]:
    filled = [route.template]
    for name in route.parameters:
        values = ARGUMENTS.get(name)
        assert values, f"{route.name}: say in ARGUMENTS what stands for {name}"
        filled = [address.replace(f"{{{name}}}", value) for address in filled for value in values]
    for address in filled:
        yield f"/{address}"


def names_a_row(route: Route) -> bool:
    return "pk" in route.parameters and route.name not in DOORS


ALL = routes()
IDS = [f"{route.name} {route.template}" for route in ALL]


def client_of(person: Any) -> Client:
    return factories.sign_in(Client(raise_request_exception=False), person)


FORM = {
    "credential": BOB.number, "account": BOB.number, "pk": BOB.number, "id": BOB.number, "owner": BOB.number,
    "owner_id": BOB.number, "user": BOB.number, "session": BOB.number, "token": BOB.number, "confirm": BOB.name,
    "username": BOB.name, "label": "x", "venue": "hyperliquid", "action": "delete", "email": "x@example.org",
}  # fmt: skip


@pytest.mark.parametrize("route", ALL, ids=IDS)
def test_no_address_tells_ada_of_bob_or_changes_what_is_his(route: Route, people: dict[str, Any]) -> None:
    if route.name.startswith(OPERATORS):
        return
    client, before = client_of(people["ada"]), rows_of(BOB)
    for address in addresses(route):
        for method in METHODS:
            if method == "post" and address.startswith("/sign-out"):
                continue
            for body in ({}, FORM):
                options: dict[str, Any] = {}
                if body:
                    options = {"QUERY_STRING": _query(FORM)} if method in {"get", "head", "options"} else {"data": body}
                    if address.startswith("/api/") and "data" in options:
                        options = {"data": json.dumps(body), "content_type": "application/json"}
                    elif method in {"put", "patch", "delete"}:
                        options = {"data": _query(body), "content_type": "application/x-www-form-urlencoded"}
                answer = getattr(client, method)(address, **options)
                said = f"{method} {address} {options}: {answer.status_code}"
                assert answer.status_code < 500 or route.name == "ready", said
                if names_a_row(route) and method != "options":  # which tells of the route, not of a row
                    assert answer.status_code in ({403, 405} if route.name in OWNERS else {404, 405}), said
                assert not others(answer, sent=address + repr(options)) - _own_number(address), said
    after = rows_of(BOB)
    assert after == before


def _query(values: dict[str, Any]) -> str:
    return urlencode(values)


def _own_number(address: str) -> set[bytes]:
    """A page may repeat the address it was asked under."""
    return {str(BOB.number).encode()} if str(BOB.number) in address else set()


@pytest.mark.parametrize("route", [route for route in ALL if names_a_row(route)], ids=lambda route: route.template)
def test_bobs_rows_and_rows_that_never_were_are_the_same_to_ada(route: Route, people: dict[str, Any]) -> None:
    if route.name.startswith(OPERATORS):
        return
    client = client_of(people["ada"])
    for address in addresses(route):
        never = address.replace(str(BOB.number), "990099")
        for method in ("get", "post"):
            his, nobodys = (getattr(client, method)(one) for one in (address, never))
            assert his.status_code == nobodys.status_code
            assert shape(his, BOB.number) == shape(nobodys, 990099)


def shape(answer: Any, number: int) -> bytes:
    """An answer without what differs from one request to the next."""
    changing = rb'"request_id": ?"[0-9a-f-]+|name="csrfmiddlewaretoken" value="\w+'
    return re.sub(changing, b"", content(answer).replace(str(number).encode(), b"N"))


@pytest.mark.parametrize("route", [route for route in ALL if names_a_row(route)], ids=lambda route: route.template)
def test_the_walk_asks_for_rows_that_are_there(route: Route, people: dict[str, Any]) -> None:
    """Otherwise 404 would say nothing: of her own row of the same kind Ada is not told that it does not exist."""
    if route.name.startswith(OPERATORS):
        return
    User.objects.filter(pk=ADA.number).update(is_superuser=route.name in OWNERS)
    for address in addresses(route):
        ExchangeCredential.objects.update(health_state=Health.UNREADABLE)  # so that even an address can be put in anew
        client, own = client_of(User.objects.get(pk=ADA.number)), address.replace(str(BOB.number), str(ADA.number))
        assert {client.get(own).status_code, client.post(own).status_code} != {404}, own
        User.objects.all().delete()  # what was asked for may have been done
        plant(ADA)


@pytest.mark.parametrize("route", ALL, ids=IDS)
def test_nobody_but_staff_gets_into_the_admin(route: Route, people: dict[str, Any]) -> None:
    if not route.name.startswith(OPERATORS):
        return
    client = client_of(people["ada"])
    address = "/" + re.sub(r"\{\w+\}", str(BOB.number), route.template)
    for method in METHODS:
        answer = getattr(client, method)(address)
        assert answer.status_code in {301, 302, 403, 404, 405} or route.name == "admin:login", f"{method} {address}"
        assert not others(answer, sent=address)


# --- Every parameter and field of the API ----------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


IN_COMPANY = f"{ADA.number},{BOB.number}"
NAMES_OF_BOBS = [BOB.number, [BOB.number], str(BOB.number), IN_COMPANY, BOB.name, BOB.mark, BOB.address]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    ]


OPERATIONS = operations()


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{m} {p}" for m, p, _ in OPERATIONS])
def test_no_parameter_and_no_field_of_the_api_reaches_bob(
    method: str, path: str, operation: dict[str, Any], people: dict[str, Any]
) -> None:
    client, before = client_of(people["ada"]), rows_of(BOB)
    path = re.sub(r"\{\w+\}", str(ADA.number), path)
    queries = [
        {parameter["name"]: value}
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
        for value in NAMES_OF_BOBS
    ]
    for query in queries:
        answer = client.generic(method.upper(), f"{path}?{_query(query)}")
        assert answer.status_code < 500
        assert not others(answer, sent=repr(query)), query
    for name in _body_fields(operation):
        for value in NAMES_OF_BOBS:
            body = {"venue": "hyperliquid", "label": "One more", "secrets": {"address": ADA.address}} | {name: value}
            answer = client.generic(method.upper(), path, json.dumps(body), content_type="application/json")
            assert answer.status_code < 500, (name, value)
            assert not others(answer, sent=json.dumps(body)), (name, value)
    assert rows_of(BOB) == before


def _body_fields(operation: dict[str, Any]) -> list[str]:
    """Every field of what may be sent, and those a row has that nobody should be able to send."""
    body = operation.get("requestBody")
    if not body:
        return []
    reference = next(iter(body["content"].values()))["schema"]
    name = reference.get("$ref", "").rsplit("/", 1)[-1]
    known = schema()["components"]["schemas"][name]["properties"] if name else reference.get("properties", {})
    return sorted({*known, "owner", "owner_id", "id", "pk", "uuid", "account_ref", "credential"})


QUERIES = {"VolumeQuery", "DailyQuery", "ReconciliationQuery"}  # told as parameters
BODIES_OF_DELETE = {"Confirm"}  # which OpenAPI has no place for; the walk over all routes sends it


def test_every_serializer_is_part_of_the_schema_that_is_walked() -> None:
    told = set(schema()["components"]["schemas"])
    names = {
        kind.__name__.removesuffix("Serializer")
        for kind in _subclasses(BaseSerializer)
        if kind.__module__.split(".")[0] in OURS and not kind.__name__.startswith("_")
    }
    assert names >= QUERIES | BODIES_OF_DELETE
    assert not {name for name in names - QUERIES - BODIES_OF_DELETE if not told & {name, f"Patched{name}"}}


def _subclasses(kind: type) -> set[type]:
    return {one for child in kind.__subclasses__() for one in {child, *_subclasses(child)}}


def test_a_token_sees_what_its_owner_sees_and_no_more(people: dict[str, Any]) -> None:
    text = ApiToken.issue(people["ada"], "walk", ApiToken.Scope.MANAGE)
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {text}"})
    before = rows_of(BOB)
    for route in ALL:
        if not route.name.startswith("api:"):
            continue
        for address in addresses(route):
            for method in METHODS:
                answer = getattr(client, method)(address)
                assert answer.status_code < 500
                if names_a_row(route) and method != "options":
                    assert answer.status_code in {404, 405}, f"{method} {address}"
                assert not others(answer, sent=address), f"{method} {address}"
    assert rows_of(BOB) == before


# --- Every socket ----------------------------------------------------------------------------------------------------

in_thread = database_sync_to_async


@pytest.mark.parametrize("pattern", websocket_urlpatterns, ids=lambda pattern: str(pattern.pattern))
async def test_a_socket_tells_ada_nothing_of_bob(pattern: Any, people: dict[str, Any]) -> None:
    client = await in_thread(client_of)(people["ada"])
    headers = [(b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())]
    address = f"/{pattern.pattern}"
    socket = WebsocketCommunicator(application, f"{address}?{_query(FORM)}", headers=headers)
    accepted, _ = await socket.connect(timeout=5)
    assert accepted
    first = await socket.receive_from(timeout=5)
    assert ADA.mark in first
    assert not MINE.search(readable(first.encode()))
    for message in ({"type": "subscribe", **FORM}, {"type": "summary.changed", **FORM}, {"type": "ping", **FORM}):
        await socket.send_json_to(message)
    assert json.loads(await socket.receive_from(timeout=5)) == {"type": "pong"}
    await in_thread(live.push)(BOB.number)
    assert await socket.receive_nothing(0.3)
    await in_thread(live.push)(ADA.number)
    assert not MINE.search(readable((await socket.receive_from(timeout=5)).encode()))
    await socket.disconnect()


# --- Every task ------------------------------------------------------------------------------------------------------

OF_ONE = (ADA.number,)
# What each task is given. One of no account works through everybody's, and leaves everybody's apart.
TASKS: dict[str, tuple[int | str, ...]] = {
    "volume.tasks.refresh_due": (),
    "volume.tasks.refresh_next": ("bybit",),
    "volume.tasks.refresh_credential": OF_ONE,
    "volume.tasks.fetch_prices": (),
    "volume.tasks.bring_up_to_date": (),
    "volume.tasks.forget_old_runs": (),
    "volume.tasks.fetch_figures": (),
    "volume.tasks.fetch_figures_of": OF_ONE,
    "volume.tasks.prove_due": (),
    "volume.tasks.prove_account": OF_ONE,
    "perpdash.tasks.forget_people": (),
}


def our_tasks() -> list[str]:
    celery_app.loader.import_default_modules()
    return sorted(name for name in celery_app.tasks if name.split(".")[0] in OURS)


@pytest.mark.parametrize("name", our_tasks())
def test_a_task_for_ada_leaves_bobs_alone_and_one_for_all_mixes_nothing(name: str, people: dict[str, Any]) -> None:
    assert name in TASKS, "say in TASKS what it is given"
    ExchangeCredential.objects.update(due_at=NOW - timedelta(minutes=1))
    before = rows_of(BOB)
    celery_app.tasks[name].apply(TASKS[name]).get()
    if TASKS[name] == OF_ONE:
        assert rows_of(BOB) == before
    assert BOB.mark not in repr(rows_of(ADA))
    assert ADA.mark not in repr(rows_of(BOB))


def test_an_export_holds_what_is_adas_alone(people: dict[str, Any]) -> None:
    raw = readable(b"".join(pieces(people["ada"], datetime.now(UTC))))
    assert ADA.mark.encode() in raw
    assert not MINE.search(raw)

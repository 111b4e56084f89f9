"""What the database gives back is what it was given: money, numbers, and secrets that stay secret."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import DataError, connection, transaction
from django.db.models import Q
from django.forms import modelform_factory
from django.test import override_settings

from exchanges.fields import DecimalSum, Secret, SecretError, UsdSum, as_units, plain, to_usd_places, to_usd_units
from exchanges.models import ExchangeCredential, Fill
from exchanges.sandbox.hyperliquid import DEMO_EMPTY, DEMO_TRADER
from exchanges.venues.hyperliquid import HyperliquidCredentials
from tests import factories
from volume.models import DailyVolume

pytestmark = pytest.mark.django_db

NEW_SALT = "another salt, long enough to be one"
WRONG_KEY = override_settings(SALT_KEY=[NEW_SALT])
USD = DailyVolume._meta.get_field("fees_usd")
SECRETS = ExchangeCredential._meta.get_field("secrets")


@pytest.fixture
def credential() -> ExchangeCredential:
    return factories.credential()


@pytest.fixture
def store(credential: ExchangeCredential) -> Callable[..., None]:
    """Stores rows of daily volume, one for each amount, of which a UsdField is made."""

    def days(*amounts: str, symbol: str = "BTC", column: str = "fees_usd") -> None:
        taken = DailyVolume.objects.count()
        for number, amount in enumerate(amounts):
            day = date(2026, 1, 1) + timedelta(days=taken + number)
            DailyVolume.objects.create(credential=credential, day=day, symbol=symbol, **{column: Decimal(amount)})

    return days


def usd(**extra: Any) -> Decimal:
    return DailyVolume.objects.aggregate(total=UsdSum("fees_usd", **extra))["total"]


def base(**extra: Any) -> Decimal:
    return DailyVolume.objects.aggregate(total=DecimalSum("base_qty", **extra))["total"]


def raw(credential: ExchangeCredential) -> str:
    """The secret column as the database holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential WHERE id = %s", [credential.pk])
        return cursor.fetchone()[0]


def put_raw(credential: ExchangeCredential, text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE exchanges_exchangecredential SET secrets = %s WHERE id = %s", [text, credential.pk])


def fresh(credential: ExchangeCredential) -> ExchangeCredential:
    return ExchangeCredential.objects.get(pk=credential.pk)


# --- Money -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "amount",
    ["0", "0.00000001", "-0.00000001", "0.1", "123456789.12345678", "92233720368.54775807", "-92233720368.54775808"],
)
def test_an_amount_of_dollars_comes_back_to_the_last_digit(store, amount):
    store(amount)
    assert DailyVolume.objects.get().fees_usd == Decimal(amount)


def test_amounts_1e_8_apart_stay_apart(store):
    store("80000000000.00000001", "80000000000.00000002")
    assert set(DailyVolume.objects.values_list("fees_usd", flat=True)) == {
        Decimal("80000000000.00000001"),
        Decimal("80000000000.00000002"),
    }
    assert DailyVolume.objects.filter(fees_usd=Decimal("80000000000.00000001")).count() == 1
    assert DailyVolume.objects.filter(fees_usd__gt=Decimal("80000000000.00000001")).count() == 1


def test_a_sum_beyond_92_billion_is_exact(store):
    store(*["92233720368.54775807"] * 3)
    assert usd() == Decimal("276701161105.64327421")


def test_a_sum_of_very_many_small_amounts_is_exact(store):
    store(*["0.1"] * 30, "0.00000001")
    assert usd() == Decimal("3.00000001")


def test_negative_amounts_are_taken_off_the_sum(store):
    store("10.00000001", "-3.5", "-0.00000002", "-80000000000.99999999")
    assert usd() == Decimal("-79999999994.5")


def test_a_sum_keeps_to_its_filter(store):
    store("90000000000.5", "90000000000.25")
    store("7", symbol="ETH")
    assert usd(filter=Q(symbol="BTC")) == Decimal("180000000000.75")
    assert usd(filter=~Q(symbol="BTC")) == Decimal(7)
    assert usd(filter=Q(symbol="SOL")) == 0


def test_sums_are_made_for_each_group(store):
    store("1.5", "2")
    store("4", symbol="ETH")
    groups = DailyVolume.objects.order_by("symbol").values("symbol").annotate(total=UsdSum("fees_usd"))
    assert [(row["symbol"], row["total"]) for row in groups] == [("BTC", Decimal("3.5")), ("ETH", Decimal(4))]


def test_amounts_that_are_missing_count_as_nothing(store):
    store("1")
    totals = DailyVolume.objects.aggregate(total=UsdSum("realized_pnl_usd"))
    assert totals["total"] == 0
    DailyVolume.objects.update(realized_pnl_usd=Decimal("-2.5"))
    store("1")
    assert DailyVolume.objects.aggregate(total=UsdSum("realized_pnl_usd"))["total"] == Decimal("-2.5")


def test_the_sum_of_no_rows_is_0():
    assert usd() == 0
    assert base() == 0


def test_the_sum_of_an_empty_choice_is_0():
    nothing = DailyVolume.objects.filter(pk__in=[])
    assert nothing.aggregate(total=UsdSum("fees_usd"))["total"] == 0
    assert nothing.aggregate(total=DecimalSum("base_qty"))["total"] == 0


def test_a_ninth_decimal_is_an_error_not_a_rounding(store):
    with pytest.raises(ValueError, match="more than 8 decimals"), transaction.atomic():
        store("0.000000001")
    assert not DailyVolume.objects.exists()


def test_trailing_zeros_are_no_decimals(store):
    store("1.5000000000000")
    assert DailyVolume.objects.get().fees_usd == Decimal("1.5")


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_not_stored(amount):
    with pytest.raises((ValueError, OverflowError)):
        USD.get_prep_value(Decimal(amount))


def test_an_amount_too_large_for_the_column_is_an_error(store):
    with pytest.raises((OverflowError, DataError)), transaction.atomic():
        store("92233720368.54775808")


# --- Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["0", "1E-8", "-1E+21", "0.1", "12345678901234567890123456789012345678.000000000000000000000000000000000001"],
)
def test_a_number_of_any_precision_comes_back_exactly(store, number):
    store(number, column="base_qty")
    assert DailyVolume.objects.get().base_qty == Decimal(number)


def test_a_sum_of_numbers_is_exact(store):
    store("0.1", "0.2", "-0.000000000000000000000000000001", "1000000000000000000000", column="base_qty")
    assert base() == Decimal("1000000000000000000000.299999999999999999999999999999")


def test_a_sum_of_numbers_keeps_to_its_filter(store):
    store("0.1", "0.2", column="base_qty")
    store("5", symbol="ETH", column="base_qty")
    assert base(filter=Q(symbol="BTC")) == Decimal("0.3")
    assert base(filter=Q(symbol="SOL")) == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [("1E+3", "1000"), ("1E-8", "0.00000001"), ("1.500", "1.5"), ("100", "100"), ("-0.10", "-0.1"), ("0.000", "0")],
)
def test_plain_writes_digits_without_exponent_or_idle_zeros(number, text):
    assert plain(Decimal(number)) == text


@pytest.mark.parametrize(
    "number", ["0", "-1.5", "0.000000005", "0.000000015", "92000000000", "1E+9", "1E-40", "7" * 70]
)
def test_units_are_those_of_the_rounded_amount(number):
    assert to_usd_units(Decimal(number)) == as_units(to_usd_places(Decimal(number)))


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        lambda secret: f"{secret} {secret!r} {secret!s}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: json.dumps({"secrets": secret}, default=str),
    ],
    ids=["repr", "str", "format", "f-string", "percent", "json"],
)
def test_a_secret_does_not_show_itself(show):
    assert "hunter2" not in show(Secret("hunter2"))


def test_a_secret_is_revealed_only_when_asked():
    assert Secret("hunter2").reveal() == "hunter2"
    assert type(Secret("hunter2").reveal()) is str


def test_stored_secrets_come_back_as_they_were(credential):
    assert fresh(credential).open_secrets() == HyperliquidCredentials(address=DEMO_TRADER)


def test_the_secret_column_holds_no_plain_text(credential):
    assert DEMO_TRADER not in raw(credential)
    assert "address" not in raw(credential)


def test_the_same_secret_is_never_the_same_ciphertext(credential):
    before = raw(credential)
    credential.set_secrets(credential.open_secrets())
    credential.save()
    assert raw(credential) != before


@pytest.mark.parametrize(
    "read",
    [
        lambda: ExchangeCredential.objects.get().open_secrets(),
        lambda: ExchangeCredential.objects.get().secrets.reveal(),
        lambda: [secret.reveal() for secret in ExchangeCredential.objects.values_list("secrets", flat=True)],
    ],
    ids=["opened", "revealed", "listed"],
)
def test_a_wrong_key_raises_and_gives_no_ciphertext(credential, read):
    with WRONG_KEY, pytest.raises(SecretError, match="can't be read") as fault:
        read()
    assert raw(credential) not in str(fault.value)
    assert raw(credential) not in str(ExchangeCredential.objects.get().secrets)


def test_nothing_is_saved_over_a_secret_that_cannot_be_read(credential):
    before = raw(credential)
    with WRONG_KEY:
        stored = fresh(credential)
        stored.label = "Renamed"
        stored.save()
        stored.save(update_fields=["secrets"])
        ExchangeCredential.objects.bulk_update([stored], ["secrets", "label"])
    assert raw(credential) == before
    assert fresh(credential).label == "Renamed"
    assert fresh(credential).open_secrets().address == DEMO_TRADER


def test_ciphertext_that_is_none_raises(credential):
    put_raw(credential, "not a token")
    with pytest.raises(SecretError):
        fresh(credential).open_secrets()


def test_a_form_that_fails_does_not_poison_the_process(credential):
    form = modelform_factory(ExchangeCredential, fields=["label", "secrets"])
    for values in ({}, {"label": ""}, {"label": "x", "secrets": ""}, {"label": "", "secrets": raw(credential)}):
        assert not form(values, instance=fresh(credential)).is_valid()
    assert fresh(credential).open_secrets().address == DEMO_TRADER
    with WRONG_KEY, pytest.raises(SecretError):
        fresh(credential).open_secrets()


def test_a_cleaned_value_is_not_decrypted(credential):
    assert SECRETS.clean(raw(credential), credential).reveal() == raw(credential)


@pytest.mark.parametrize("format_", ["json", "jsonl", "xml"])
def test_dumpdata_refuses_to_export_secrets(credential, format_):
    out = StringIO()
    with pytest.raises(CommandError, match="Secrets are not exported"):
        call_command("dumpdata", "exchanges.ExchangeCredential", format=format_, stdout=out)
    with pytest.raises(SecretError):
        serializers.serialize(format_, ExchangeCredential.objects.all())
    assert raw(credential) not in out.getvalue()
    assert DEMO_TRADER not in out.getvalue()


@pytest.mark.parametrize("lookup", ["secrets", "secrets__exact", "secrets__contains", "secrets__in", "secrets__gt"])
def test_secrets_cannot_be_searched(lookup):
    with pytest.raises(TypeError, match="can't be searched"):
        ExchangeCredential.objects.filter(**{lookup: "x"})


def test_missing_secrets_can_be_looked_for(credential):
    assert not ExchangeCredential.objects.filter(secrets__isnull=True).exists()


def test_ciphertext_copied_into_another_row_is_refused(credential):
    other = factories.credential(label="Other", secrets={"address": DEMO_EMPTY})
    put_raw(other, raw(credential))
    with pytest.raises(SecretError, match="belong to another account"):
        fresh(other).open_secrets()
    assert fresh(credential).open_secrets().address == DEMO_TRADER


def test_an_empty_secret_is_kept_as_one(credential):
    credential.secrets = Secret("")
    credential.save()
    assert raw(credential)
    assert fresh(credential).secrets.reveal() == ""


def test_a_new_salt_reads_what_the_old_one_wrote_and_writes_its_own(credential, settings):
    old = settings.SALT_KEY
    with override_settings(SALT_KEY=[NEW_SALT, *old]):
        stored = fresh(credential)
        assert stored.open_secrets().address == DEMO_TRADER
        stored.set_secrets(stored.open_secrets())
        stored.save()
    with pytest.raises(SecretError):
        fresh(credential).open_secrets()
    with WRONG_KEY:
        assert fresh(credential).open_secrets().address == DEMO_TRADER


def test_a_new_secret_key_reads_what_the_old_one_wrote(credential, settings):
    new = "a new secret key that is long enough to be one"
    with override_settings(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert fresh(credential).open_secrets().address == DEMO_TRADER
    with override_settings(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[]), pytest.raises(SecretError):
        fresh(credential).open_secrets()


@pytest.mark.parametrize(
    "read",
    [
        lambda: ExchangeCredential.objects.first(),
        lambda: ExchangeCredential.objects.filter(label="Main").order_by("pk")[0],
        lambda: get_user_model().objects.get().credentials.first(),
        lambda: Fill.objects.get().credential,
        lambda: Fill.objects.select_related("credential").get().credential,
        lambda: get_user_model().objects.prefetch_related("credentials").get().credentials.all()[0],
    ],
    ids=["first", "filtered", "of its owner", "of a fill", "of a fill, joined", "prefetched"],
)
def test_a_wrong_key_spoils_no_list(credential, read):
    Fill.objects.create(
        credential=credential, fill_id="1", executed_at=credential.due_at, day=credential.due_at.date(), symbol="BTC",
        base="BTC", quote="USDC", side="buy", liquidity="maker", kind="trade", price=1, qty=1, notional=1, fee=0,
        fee_asset="USDC",
    )  # fmt: skip
    with WRONG_KEY:
        assert read().label == "Main"
        assert str(read().secrets) == "***"


def test_an_account_read_again_from_the_database_keeps_its_secrets(credential):
    credential.refresh_from_db()
    assert credential.open_secrets().address == DEMO_TRADER

"""The API's objects. Amounts are decimal text; secrets go in and never come out."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from exchanges.fields import plain
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import Credentials, CredentialsRejected, Kind, Reason, Window
from volume.glance import SPANS
from volume.holding import needs_key
from volume.models import Amendment, Preferences, VolumeCheck
from volume.queries import GRANULARITIES, KEYS, Filter
from volume.reconcile import State


def credential_ids(text: str) -> tuple[int, ...]:
    """Numbers of credentials, separated by commas."""
    numbers = [item.strip() for item in text.split(",") if item.strip()]
    if not all(number.isascii() and number.isdecimal() and len(number) < 19 for number in numbers):
        raise serializers.ValidationError("Numbers of credentials, separated by commas.")
    return tuple(map(int, numbers))


class HealthSerializer(serializers.Serializer[Any]):
    state = serializers.CharField()
    reason = serializers.CharField(help_text=f"Why a key does not do, where known: {', '.join(Reason)}. Else empty.")
    text = serializers.CharField()
    at = serializers.DateTimeField(allow_null=True)


class CredentialSerializer(serializers.ModelSerializer[ExchangeCredential]):
    secrets = serializers.DictField(
        child=serializers.CharField(),
        write_only=True,
        help_text="What venues/ lists for the venue. Never sent back. PATCH puts a new key into the account.",
    )
    allow_trading_key = serializers.BooleanField(write_only=True, required=False, default=False)
    verify = serializers.BooleanField(write_only=True, required=False, default=True)
    health = HealthSerializer(read_only=True)
    related = serializers.JSONField(read_only=True)

    class Meta:
        model = ExchangeCredential
        fields = [
            "id", "venue", "label", "secrets", "allow_trading_key", "verify", "account_ref", "description",
            "is_enabled", "is_backfilling", "health", "may_trade", "may_withdraw", "expires_at", "related",
            "history_from", "fresh_at", "created_at",
        ]  # fmt: skip
        read_only_fields = [
            "account_ref", "description", "is_backfilling", "may_trade", "may_withdraw", "expires_at", "history_from",
            "fresh_at",
        ]  # fmt: skip

    def validate_venue(self, value: str) -> str:
        if value not in VENUES:
            raise serializers.ValidationError(f"Not a venue perpdash knows: it knows {', '.join(VENUES)}.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.instance is None:
            attrs["credentials"] = self._parsed(attrs["venue"], attrs.pop("secrets"))
            return attrs
        fixed, sent = {"venue", "verify"}, set(self.initial_data)
        if unknown := sorted(sent - set(self.fields)):
            raise serializers.ValidationError({name: ["Not known here."] for name in unknown})
        if not needs_key(self.instance.venue_type):
            fixed |= {"secrets", "allow_trading_key"}
        if unchangeable := sorted(fixed & sent):
            raise serializers.ValidationError(
                {name: ["Can't be changed: add the account anew."] for name in unchangeable}
            )
        if "secrets" in attrs:
            attrs["credentials"] = self._parsed(self.instance.venue, attrs.pop("secrets"))
        elif "allow_trading_key" in sent:
            raise serializers.ValidationError({"allow_trading_key": ["Send it along with the secrets of the key."]})
        return attrs

    def _parsed(self, venue: str, secrets: dict[str, str]) -> Credentials:
        try:
            return VENUES[venue].credentials_type.parse(secrets)
        except CredentialsRejected as fault:
            raise serializers.ValidationError({"secrets": [str(fault)]}) from None


class BackfillSerializer(serializers.Serializer[Any]):
    since = serializers.DateField(required=False, help_text="How far back; only ever extends what is wanted.")


class RereadSerializer(serializers.Serializer[Any]):
    """A range of UTC days (or moments), `until` exclusive; both may be left out."""

    since = serializers.CharField(required=False, help_text="A UTC day or a moment: 2025-01-31, 2025-01-31T12:00:00Z.")
    until = serializers.CharField(required=False)

    def validate_since(self, value: str) -> datetime:
        return _moment(value)

    def validate_until(self, value: str) -> datetime:
        return _moment(value)

    def window(self, credential: ExchangeCredential, *, now: datetime) -> Window | None:
        """What is meant; None is everything."""
        values = self.validated_data
        if not values:
            return None
        window = Window(values.get("since", credential.history_from), min(values.get("until", now), now))
        if not window:
            raise serializers.ValidationError("until must be after since, and since in the past: the range is empty.")
        return window


def _moment(text: str) -> datetime:
    """Of a UTC day its beginning. Raises ValidationError."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise serializers.ValidationError("Not a day or a moment: write 2025-01-31 or 2025-01-31T12:00:00Z.") from None


OF_EVERY_LIST = {"limit", "offset", "format"}


class VolumeQuerySerializer(serializers.Serializer[Any]):
    """The query of every volume view. Days are UTC; until is exclusive; lists are separated by commas."""

    since = serializers.DateField(required=False)
    until = serializers.DateField(required=False)
    venue = serializers.CharField(required=False)
    market = serializers.CharField(required=False)
    credential = serializers.CharField(required=False)

    def validate_venue(self, value: str) -> tuple[str, ...]:
        venues = tuple(filter(None, value.split(",")))
        if unknown := [venue for venue in venues if venue not in VENUES]:
            raise serializers.ValidationError(f"Not a venue perpdash knows: {', '.join(unknown)}.")
        return venues

    def validate_market(self, value: str) -> tuple[str, ...]:
        return tuple(filter(None, value.split(",")))

    def validate_credential(self, value: str) -> tuple[int, ...]:
        return credential_ids(value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(self.initial_data) - set(self.fields) - OF_EVERY_LIST):
            known = ", ".join(self.fields)
            raise serializers.ValidationError({name: [f"Not known here; there is {known}."] for name in unknown})
        if attrs.get("since") and attrs.get("until") and attrs["since"] >= attrs["until"]:
            raise serializers.ValidationError("until must be after since: the range is empty.")
        return attrs

    def as_filter(self, owner_id: int) -> Filter:
        values = self.validated_data
        return Filter(
            owner_id=owner_id, since=values.get("since"), until=values.get("until"), venues=values.get("venue", ()),
            markets=values.get("market", ()), credentials=values.get("credential", ()),
        )  # fmt: skip


class DailyQuerySerializer(VolumeQuerySerializer):
    group_by = serializers.CharField(required=False, default="day", help_text=f"Of {', '.join(KEYS)}.")
    granularity = serializers.ChoiceField(required=False, default="day", choices=GRANULARITIES)

    def validate_group_by(self, value: str) -> tuple[str, ...]:
        keys = tuple(filter(None, value.split(",")))
        if unknown := [key for key in keys if key not in KEYS]:
            raise serializers.ValidationError(f"Can't group by {', '.join(unknown)}: only by {', '.join(KEYS)}.")
        if len(set(keys)) != len(keys):
            raise serializers.ValidationError("A key is named twice.")
        return keys


class VolumeRowSerializer(serializers.Serializer[Any]):
    day = serializers.DateField(required=False)
    venue = serializers.CharField(required=False)
    market = serializers.CharField(required=False)
    credential = serializers.IntegerField(required=False)
    fills = serializers.IntegerField()
    base_qty = serializers.CharField(allow_null=True, help_text="Null unless rows are per market.")
    notional_usd = serializers.CharField(help_text="Without forced fills, unless you chose to count them.")
    maker_usd = serializers.CharField()
    taker_usd = serializers.CharField()
    buy_usd = serializers.CharField()
    sell_usd = serializers.CharField()
    forced_fills = serializers.IntegerField()
    forced_usd = serializers.CharField()
    fees_usd = serializers.CharField()
    fills_not_priced = serializers.IntegerField(
        help_text="Of the fills: those in no dollar figure, for want of a price."
    )
    complete = serializers.BooleanField()
    stale = serializers.BooleanField(help_text="Nothing is missing but what came since an account was last read.")
    why = serializers.ListField(child=serializers.CharField(), help_text="What an incomplete row lacks.")


class MarketRowSerializer(VolumeRowSerializer):
    """`complete` and `why` are of the volume alone."""

    fees_complete = serializers.BooleanField(help_text="Whether all fees have a price in dollars.")


class KindRowSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=[(kind, kind) for kind in Kind])
    label = serializers.CharField()  # type: ignore[assignment]
    fills = serializers.IntegerField()
    usd = serializers.CharField()
    fills_not_priced = serializers.IntegerField()
    counts = serializers.BooleanField(help_text="Whether they are in the volume.")


class PreferencesSerializer(serializers.ModelSerializer[Preferences]):
    class Meta:
        model = Preferences
        fields = ["counts_forced", "stablecoins_at_market"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(self.initial_data) - set(self.fields)):
            raise serializers.ValidationError({name: ["Not known here."] for name in unknown})
        return attrs


class BeforeSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    notional_usd = serializers.CharField()
    complete = serializers.BooleanField()
    change = serializers.CharField(help_text="From then to now: +12.3%; empty where there was nothing.")


class TotalSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    notional_usd = serializers.CharField(help_text="With forced fills only if you chose to count them.")
    forced_usd = serializers.CharField()
    forced_fills = serializers.IntegerField()
    fills = serializers.IntegerField()
    fills_not_priced = serializers.IntegerField(help_text="Of them: those in no dollar figure, for want of a price.")
    complete = serializers.BooleanField()
    stale = serializers.BooleanField(help_text="Nothing is missing but what came since an account was last read.")
    complete_from = serializers.DateTimeField(
        allow_null=True, help_text="Since when all accounts behind it are complete; null where one is not even today."
    )
    why = serializers.ListField(child=serializers.CharField())
    before = BeforeSerializer(
        allow_null=True, help_text="The same stretch of the period before, up to the same time of day; null for all."
    )


class VenueTotalsSerializer(serializers.Serializer[Any]):
    venue = serializers.CharField()
    name = serializers.CharField()
    totals = serializers.DictField(child=TotalSerializer())


class LackSerializer(serializers.Serializer[Any]):
    state = serializers.CharField()
    until = serializers.DateTimeField()
    why = serializers.CharField()
    remedy = serializers.CharField()
    stream = serializers.CharField(help_text="The venue's list it is about; empty where it is all of them.")
    retry_at = serializers.DateTimeField(allow_null=True, help_text="When a gap is tried again.")

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | {"from": serializers.DateTimeField()}  # a word Python keeps for itself


class BackfillStateSerializer(serializers.Serializer[Any]):
    reached_at = serializers.DateTimeField(help_text="Where in the past the reading is.")
    fills_per_second = serializers.FloatField(allow_null=True)
    days_per_second = serializers.FloatField(allow_null=True, help_text="Of history, over all lists.")
    seconds_left = serializers.IntegerField(allow_null=True, help_text="At this speed; null where there is none yet.")
    left = serializers.CharField()


class AccountSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    venue = serializers.CharField()
    venue_name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    account_ref = serializers.CharField()
    description = serializers.CharField()
    is_enabled = serializers.BooleanField()
    is_backfilling = serializers.BooleanField(help_text="Whether history is wanted; `progress` says how far it is.")
    is_reading = serializers.BooleanField()
    health = HealthSerializer()
    verified_at = serializers.DateTimeField(allow_null=True, help_text="When the venue was last asked about the key.")
    may_trade = serializers.BooleanField()
    may_withdraw = serializers.BooleanField()
    expires_at = serializers.DateTimeField(allow_null=True)
    fresh_at = serializers.DateTimeField(allow_null=True)
    is_stale = serializers.BooleanField()
    history_from = serializers.DateTimeField()
    complete_from = serializers.DateTimeField(allow_null=True)
    complete = serializers.BooleanField()
    lacks = LackSerializer(many=True)
    held = serializers.IntegerField()
    progress = serializers.FloatField(help_text="Share of the wanted time that is settled, 0 to 1.")
    backfill = BackfillStateSerializer(allow_null=True, help_text="Where a backfill under way is, and how fast.")
    retired_at = serializers.DateTimeField(allow_null=True, help_text="Removed, with its history kept, since then.")
    related = serializers.JSONField()


@extend_schema_serializer(many=False)
class SummarySerializer(serializers.Serializer[Any]):
    type = serializers.CharField(help_text='Always "summary".')
    as_of = serializers.DateTimeField()
    day = serializers.DateField()
    next_day_at = serializers.DateTimeField()
    totals = serializers.DictField(child=TotalSerializer(), help_text=f"By span: {', '.join(SPANS)}.")
    venues = VenueTotalsSerializer(many=True)
    accounts = AccountSerializer(many=True)
    preferences = PreferencesSerializer()
    trouble = serializers.CharField(
        help_text="What is wrong with perpdash's own database or Redis, and whose turn it is. Else empty."
    )
    last_changed_day = serializers.DateField(allow_null=True)


class RunSerializer(serializers.ModelSerializer[SyncRun]):
    class Meta:
        model = SyncRun
        fields = [
            "id", "credential", "trigger", "started_at", "ended_at", "since", "until", "requests", "retries",
            "waited_seconds", "waits", "asked", "rows", "new", "seen", "skipped", "held", "retracted", "amended",
            "reached_at", "outcome", "message", "then",
        ]  # fmt: skip


class AmendmentSerializer(serializers.ModelSerializer[Amendment]):
    notional_usd = serializers.SerializerMethodField(help_text="More, or less, than before; forced fills included.")

    class Meta:
        model = Amendment
        fields = ["id", "credential", "seen_at", "day", "symbol", "cause", "why", "fills", "notional_usd"]

    def get_notional_usd(self, amendment: Amendment) -> str:
        return plain(amendment.notional_usd)


class FillSerializer(serializers.ModelSerializer[Fill]):
    price = serializers.SerializerMethodField(help_text="Quote units per base unit.")
    qty = serializers.SerializerMethodField(help_text="Base units.")
    notional = serializers.SerializerMethodField(help_text="Quote units.")
    fee = serializers.SerializerMethodField(help_text="In the fee asset; above 0 paid, below 0 rebate.")
    realized_pnl = serializers.SerializerMethodField(help_text="Quote units, fees not deducted; null if not said.")

    class Meta:
        model = Fill
        fields = [
            "id", "credential", "fill_id", "executed_at", "day", "symbol", "base", "quote", "side", "liquidity",
            "kind", "price", "qty", "notional", "fee", "fee_asset", "realized_pnl",
        ]  # fmt: skip

    def get_price(self, fill: Fill) -> str:
        return plain(fill.price)

    def get_qty(self, fill: Fill) -> str:
        return plain(fill.qty)

    def get_notional(self, fill: Fill) -> str:
        return plain(fill.notional)

    def get_fee(self, fill: Fill) -> str:
        return plain(fill.fee)

    def get_realized_pnl(self, fill: Fill) -> str | None:
        return None if fill.realized_pnl is None else plain(fill.realized_pnl)


class CoverageSerializer(serializers.ModelSerializer[Coverage]):
    class Meta:
        model = Coverage
        fields = ["id", "credential", "stream", "from_at", "until_at", "state", "reason", "remedy", "retry_at"]


class HeldRowSerializer(serializers.ModelSerializer[HeldRow]):
    class Meta:
        model = HeldRow
        fields = ["id", "credential", "stream", "raw", "why", "executed_at", "seen_at"]


class ReconciliationQuerySerializer(serializers.Serializer[Any]):
    credential = serializers.CharField(required=False, help_text="Numbers of credentials, separated by commas.")
    since = serializers.DateField(
        required=False, help_text="Compares windows that end after this UTC day began; the last 15 days if not said."
    )

    def validate_credential(self, value: str) -> tuple[int, ...]:
        return credential_ids(value)

    def as_filter(self, owner_id: int) -> Filter:
        return Filter(owner_id=owner_id, credentials=self.validated_data.get("credential", ()))


class MarketSumSerializer(serializers.Serializer[Any]):
    market = serializers.CharField()
    usd = serializers.CharField()


class ComparisonSerializer(serializers.Serializer[Any]):
    """A figure of a venue beside our sum: all perpetual fills of the window, forced ones too, stablecoins at 1:1."""

    credential = serializers.IntegerField()
    name = serializers.CharField(help_text="The venue's own name of the figure.")
    label = serializers.CharField(help_text="Its window, in words.")  # type: ignore[assignment]
    since = serializers.DateTimeField(allow_null=True, help_text="Null: as long as the account exists.")
    until = serializers.DateTimeField()
    seen_at = serializers.DateTimeField(help_text="When the venue said it.")
    theirs_usd = serializers.CharField(help_text="To the cent.")
    ours_usd = serializers.CharField()
    difference_usd = serializers.CharField(
        allow_null=True, help_text="Theirs less ours, to the cent. Null while they can't be compared."
    )
    state = serializers.ChoiceField(choices=[state.value for state in State])
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text="What may make the difference, or why it can't be compared yet."
    )
    accounts = serializers.ListField(child=serializers.CharField(), help_text="Whose fills are in our sum.")
    markets = MarketSumSerializer(many=True, help_text="Where to look: the largest of our sum.")
    held = serializers.IntegerField(help_text="Rows of the window that were not understood.")


class ChoiceSerializer(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class VenueFieldSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # hides Field's own, which a row has no use for
    help = serializers.CharField()
    is_secret = serializers.BooleanField()
    is_optional = serializers.BooleanField()
    choices = ChoiceSerializer(many=True, help_text="The values it may have; empty where any will do.")


class VenueSerializer(serializers.Serializer[Any]):
    venue = serializers.CharField()
    name = serializers.CharField()
    secrets = VenueFieldSerializer(many=True)
    key_steps = serializers.ListField(child=serializers.CharField())
    memory_note = serializers.CharField()


class CheckSerializer(serializers.ModelSerializer[VolumeCheck]):
    class Meta:
        model = VolumeCheck
        fields = ["id", "credential", "checked_at", "fills", "days", "found", "findings"]


class StoredSerializer(serializers.Serializer[Any]):
    accounts = serializers.IntegerField()
    fills = serializers.IntegerField()
    days = serializers.IntegerField(help_text="UTC days of accounts with volume.")
    runs = serializers.IntegerField()
    held_rows = serializers.IntegerField()
    first_fill_at = serializers.DateTimeField(allow_null=True)
    last_fill_at = serializers.DateTimeField(allow_null=True)


class ConfirmSerializer(serializers.Serializer[Any]):
    confirm = serializers.CharField(help_text="The name you sign in with.")

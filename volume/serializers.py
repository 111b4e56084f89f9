"""The API's objects. Amounts are decimal text; secrets go in and never come out."""

from typing import Any

from rest_framework import serializers

from exchanges.models import Coverage, ExchangeCredential, HeldRow, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import Credentials, CredentialsRejected, Reason
from volume.holding import needs_key
from volume.queries import GRANULARITIES, KEYS, Filter


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
    notional_usd = serializers.CharField(help_text="Without forced fills.")
    maker_usd = serializers.CharField()
    taker_usd = serializers.CharField()
    buy_usd = serializers.CharField()
    sell_usd = serializers.CharField()
    forced_fills = serializers.IntegerField()
    forced_usd = serializers.CharField()
    fees_usd = serializers.CharField()
    complete = serializers.BooleanField()
    why = serializers.ListField(child=serializers.CharField(), help_text="What an incomplete row lacks.")


class MarketRowSerializer(VolumeRowSerializer):
    """`complete` and `why` are of the volume alone."""

    fees_complete = serializers.BooleanField(help_text="Whether all fees have a price in dollars.")


class TotalSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    notional_usd = serializers.CharField()
    forced_usd = serializers.CharField()
    fills = serializers.IntegerField()
    complete = serializers.BooleanField()
    why = serializers.ListField(child=serializers.CharField())


class VenueTotalsSerializer(serializers.Serializer[Any]):
    venue = serializers.CharField()
    name = serializers.CharField()
    totals = serializers.DictField(child=TotalSerializer())


class LackSerializer(serializers.Serializer[Any]):
    state = serializers.CharField()
    until = serializers.DateTimeField()
    why = serializers.CharField()
    remedy = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | {"from": serializers.DateTimeField()}  # a word Python keeps for itself


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
    related = serializers.JSONField()


class SummarySerializer(serializers.Serializer[Any]):
    type = serializers.CharField(help_text='Always "summary".')
    as_of = serializers.DateTimeField()
    day = serializers.DateField()
    next_day_at = serializers.DateTimeField()
    totals = serializers.DictField(child=TotalSerializer(), help_text="By span: 24h, 7d, 14d, 30d, all.")
    venues = VenueTotalsSerializer(many=True)
    accounts = AccountSerializer(many=True)
    last_changed_day = serializers.DateField(allow_null=True)


class RunSerializer(serializers.ModelSerializer[SyncRun]):
    class Meta:
        model = SyncRun
        fields = [
            "id", "credential", "trigger", "started_at", "ended_at", "since", "until", "requests", "retries",
            "waited_seconds", "rows", "new", "seen", "skipped", "held", "retracted", "outcome", "message",
        ]  # fmt: skip


class CoverageSerializer(serializers.ModelSerializer[Coverage]):
    class Meta:
        model = Coverage
        fields = ["id", "credential", "stream", "from_at", "until_at", "state", "reason", "remedy", "retry_at"]


class HeldRowSerializer(serializers.ModelSerializer[HeldRow]):
    class Meta:
        model = HeldRow
        fields = ["id", "credential", "stream", "raw", "why", "executed_at", "seen_at"]


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

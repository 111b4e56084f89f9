"""What people look at: volume per day, the prices behind it, what changed later, and what the venues say themselves."""

from collections.abc import Collection
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import models

from exchanges import sync
from exchanges.fields import ExactDecimalField, UsdField
from exchanges.models import ExchangeCredential


class Figures(models.Model):
    """What fills come to.

    `fills`, `base_qty` and the dollars are of ordinary fills; forced ones (liquidation, ADL) stand apart. Fees and
    realized profit are of all fills.
    """

    fills = models.PositiveIntegerField(default=0)
    base_qty = ExactDecimalField(default=0)
    notional_usd = UsdField(default=0)
    maker_usd = UsdField(default=0)
    taker_usd = UsdField(default=0)
    buy_usd = UsdField(default=0)
    sell_usd = UsdField(default=0)
    forced_fills = models.PositiveIntegerField(default=0)
    forced_usd = UsdField(default=0)
    forced_qty = ExactDecimalField(default=0)
    forced_maker_usd = UsdField(default=0)
    forced_buy_usd = UsdField(default=0)
    fees_usd = UsdField(default=0)
    fills_not_priced = models.PositiveIntegerField(default=0, help_text="Counted in no dollar figure here.")
    fees_not_priced_fills = models.PositiveIntegerField(default=0, help_text="Fills whose fee is in no dollar figure.")
    fees_not_priced = models.JSONField(default=dict, help_text="{asset: amount}")
    kinds = models.JSONField(default=dict, help_text="{kind: {fills, usd}} of all that are no plain trades.")

    class Meta:
        abstract = True


class DailyVolume(Figures):
    """One credential, UTC day and market. Derived: can be dropped and rebuilt from its fills at any time."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    symbol = models.CharField("market", max_length=64)
    realized_pnl_usd = UsdField(null=True, help_text="Empty where the venue does not say.")
    assets = models.JSONField(default=list, help_text="Whose prices these dollars rest on.")
    is_at_market = models.BooleanField(
        null=True, default=False, help_text="Whether stablecoins count at market value; empty: an older perpdash's."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credential", "day", "symbol"], name="a_day_and_market_once")]
        indexes = [
            models.Index(fields=["day"], name="volume_by_day"),
            models.Index(fields=["credential", "symbol", "day"], name="volume_by_market"),
            models.Index(fields=["credential", "is_at_market"], name="volume_by_basis"),
        ]
        ordering = ["-day", "credential", "symbol"]
        verbose_name_plural = "daily volume"

    def __str__(self) -> str:
        return f"{self.day} {self.symbol} {self.notional_usd}"


class PeriodVolume(Figures):
    """Days of one credential added up: of a day all markets, of a week or month each market and all of them.

    Derived from the days, for who looks at many of them. Good as long as none of its days is said to have changed.
    """

    class Step(models.TextChoices):
        DAY = "day", "Day"
        WEEK = "week", "Week"  # from Monday on
        MONTH = "month", "Month"

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="periods", db_index=False)
    step = models.CharField(max_length=5, choices=Step)
    day = models.DateField("first day")
    symbol = models.CharField("market", max_length=64, blank=True)  # empty: all of them

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["credential", "step", "day", "symbol"], name="a_period_and_market_once")
        ]
        ordering = ["-day", "credential", "symbol"]
        verbose_name_plural = "period volume"

    def __str__(self) -> str:
        return f"{self.step} from {self.day} {self.symbol} {self.notional_usd}"


class HourVolume(models.Model):
    """What the fills of one credential and hour come to in their quote: of the last days, looked at in part."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="hours", db_index=False)
    hour_at = models.DateTimeField()
    quote = models.CharField(max_length=20)
    fills = models.PositiveIntegerField(default=0)
    notional = UsdField(default=0)
    forced_fills = models.PositiveIntegerField(default=0)
    forced_notional = UsdField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["credential", "hour_at", "quote"], name="an_hour_and_quote_once")
        ]
        ordering = ["-hour_at", "credential", "quote"]
        verbose_name_plural = "hourly volume"

    def __str__(self) -> str:
        return f"{self.hour_at:%Y-%m-%d %H:%M} {self.notional} {self.quote}"


class AddedUp(models.Model):
    """That the days of a credential are in its periods, and which of them changed since. Without it, none is."""

    credential = models.OneToOneField(ExchangeCredential, models.CASCADE, primary_key=True, related_name="added_up")
    changed = models.JSONField("changed days", default=list)  # ISO dates: the periods they are in are not looked at
    hours_from = models.DateField(help_text="The first day of which there are hours.")
    version = models.UUIDField(default=uuid4, editable=False)  # another with each adding up

    class Meta:
        verbose_name_plural = "added up"

    def __str__(self) -> str:
        return f"periods of {self.credential_id}, but for {len(self.changed)} days"


class AssetPrice(models.Model):
    """The price of an asset in USD on a UTC day, and where it is from: that of the day's end, once it has ended."""

    asset = models.CharField(max_length=20)
    day = models.DateField()
    usd = ExactDecimalField()
    source = models.CharField(max_length=120)
    observed_at = models.DateTimeField(null=True, blank=True)
    is_final = models.BooleanField(default=True, help_text="Whether the day was over when it was asked for.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["asset", "day"], name="a_price_a_day")]
        ordering = ["asset", "-day"]

    def __str__(self) -> str:
        return f"{self.asset} {self.day}: {self.usd}"


class Preferences(models.Model):
    """How one owner wants to count. Every view follows at once."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="volume_preferences"
    )
    counts_forced = models.BooleanField(
        "count liquidations and auto-deleveraging", default=False, help_text="They are shown apart in either case."
    )
    stablecoins_at_market = models.BooleanField(
        "dollar stablecoins at their market value", default=False, help_text="Instead of one dollar each."
    )

    class Meta:
        verbose_name_plural = "preferences"

    def __str__(self) -> str:
        return f"preferences of {self.owner}"

    @classmethod
    def of(cls, owner: Any) -> "Preferences":
        """Of a person or their number; the defaults, unsaved, where nothing was ever chosen."""
        owner_id = getattr(owner, "pk", owner)
        return cls.of_all([owner_id])[owner_id]

    @classmethod
    def of_all(cls, owner_ids: Collection[int]) -> "dict[int, Preferences]":
        """As `of`, by the number of each of these people."""
        chosen = cls.objects.in_bulk({*owner_ids})
        return {owner_id: chosen.get(owner_id) or cls(owner_id=owner_id) for owner_id in owner_ids}


class Amendment(models.Model):
    """A day and market that changed after it had been called read, by how much, and why."""

    class Cause(models.TextChoices):
        LATE = sync.Cause.LATE, "Came late"
        TAKEN_BACK = sync.Cause.TAKEN_BACK, "Taken back by the venue"
        CHANGED = sync.Cause.CHANGED, "Changed by the venue"
        RENAMED = sync.Cause.RENAMED, "Market renamed"
        UNDERSTOOD = sync.Cause.UNDERSTOOD, "Held before, understood now"

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="amendments", db_index=False)
    seen_at = models.DateTimeField()
    day = models.DateField()
    symbol = models.CharField("market", max_length=64)
    cause = models.CharField(max_length=16, choices=Cause)
    why = models.CharField(max_length=300)
    fills = models.IntegerField(default=0, help_text="More (or, below 0, fewer) than before, forced ones included.")
    notional_usd = UsdField(default=0, help_text="More (or less) than before, forced fills included.")

    class Meta:
        indexes = [models.Index(fields=["credential", "-seen_at"], name="amendments_by_time")]
        ordering = ["-seen_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.day} {self.symbol}: {self.cause}"


class VenueFigure(models.Model):
    """What a venue itself says an account traded within a window. Compared with our sum, and never mixed into it."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="figures", db_index=False)
    name = models.CharField(max_length=40)  # the venue's own name of the figure
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    usd = ExactDecimalField()
    includes = models.JSONField(default=list)  # of exchanges.venues.base.Inclusion
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["credential", "name", "from_at", "until_at"], name="a_venue_figure_once")
        ]
        ordering = ["credential", "name", "-until_at"]

    def __str__(self) -> str:
        return f"{self.name} {self.from_at:%Y-%m-%d %H:%M} to {self.until_at:%Y-%m-%d %H:%M}: {self.usd}"


class VolumeCheck(models.Model):
    """One proof of an account's numbers: fills against days, days against ledger, summaries against queries."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="checks", db_index=False)
    checked_at = models.DateTimeField()
    fills = models.PositiveIntegerField(default=0)
    days = models.PositiveIntegerField(default=0)
    found = models.PositiveIntegerField(default=0, help_text="How many things do not agree.")
    findings = models.JSONField(default=list, help_text="The first of them, in words.")

    class Meta:
        indexes = [models.Index(fields=["credential", "-checked_at"], name="checks_by_time")]
        ordering = ["-checked_at"]

    def __str__(self) -> str:
        return f"{self.checked_at:%Y-%m-%d %H:%M}: {self.found} differences"

"""What people look at: volume per day, and the prices that turn it into dollars. All derived, but for the prices."""

from django.db import models

from exchanges.fields import ExactDecimalField, UsdField
from exchanges.models import ExchangeCredential


class DailyVolume(models.Model):
    """One credential, UTC day and market. Derived: can be dropped and rebuilt from its fills at any time.

    `fills`, `base_qty` and the dollars are of ordinary fills; forced ones (liquidation, ADL) stand apart. Fees and
    realized profit are of all fills.
    """

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="days", db_index=False)
    day = models.DateField()
    symbol = models.CharField("market", max_length=64)
    fills = models.PositiveIntegerField(default=0)
    base_qty = ExactDecimalField(default=0)
    notional_usd = UsdField(default=0)
    maker_usd = UsdField(default=0)
    taker_usd = UsdField(default=0)
    buy_usd = UsdField(default=0)
    sell_usd = UsdField(default=0)
    forced_fills = models.PositiveIntegerField(default=0)
    forced_usd = UsdField(default=0)
    fees_usd = UsdField(default=0)
    realized_pnl_usd = UsdField(null=True, help_text="Empty where the venue does not say.")
    fills_not_priced = models.PositiveIntegerField(default=0, help_text="Counted in no dollar figure here.")
    fees_not_priced_fills = models.PositiveIntegerField(default=0, help_text="Fills whose fee is in no dollar figure.")
    fees_not_priced = models.JSONField(default=dict, help_text="{asset: amount}")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credential", "day", "symbol"], name="a_day_and_market_once")]
        indexes = [models.Index(fields=["day"], name="volume_by_day")]
        ordering = ["-day", "credential", "symbol"]
        verbose_name_plural = "daily volume"

    def __str__(self) -> str:
        return f"{self.day} {self.symbol} {self.notional_usd}"


class AssetPrice(models.Model):
    """The price of an asset in USD on a UTC day, and where it is from."""

    asset = models.CharField(max_length=20)
    day = models.DateField()
    usd = ExactDecimalField()
    source = models.CharField(max_length=60)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["asset", "day"], name="a_price_a_day")]
        ordering = ["asset", "-day"]

    def __str__(self) -> str:
        return f"{self.asset} {self.day}: {self.usd}"

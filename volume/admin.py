"""Credentials, with what can be done to them, and daily volume in the admin."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone

from exchanges.admin import ReadOnlyAdmin
from exchanges.forms import secrets_from_json
from exchanges.models import ExchangeCredential, history_start
from exchanges.venues import VENUES
from exchanges.venues.base import BudgetSpent, CredentialsRejected, VenueError
from volume import holding
from volume.models import AssetPrice, DailyVolume, VolumeCheck


class CredentialAdminForm(forms.ModelForm[ExchangeCredential]):
    """Secrets can be written, as a JSON object, and are never shown again."""

    venue = forms.ChoiceField(choices=lambda: [(slug, venue.name) for slug, venue in VENUES.items()])
    new_secrets = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"size": 80, "autocomplete": "off"}),
        help_text='A JSON object with what the venue needs, as {"address": "0x..."}. Stored secrets are not shown; '
        "leave this empty to keep them.",
    )

    class Meta:
        model = ExchangeCredential
        fields = ["owner", "venue", "label", "is_enabled", "is_backfilling", "allows_trading_key"]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        text, venue = values.get("new_secrets"), values.get("venue") or self.instance.venue
        if not text and self.instance.retired_at and values.get("is_enabled"):
            self.add_error("is_enabled", holding.retired_words(self.instance))
        if not text and self.instance._state.adding:
            self.add_error("new_secrets", "A new account needs its secrets.")
        if not text or venue not in VENUES:
            return values
        self.instance.venue = venue
        self.instance.allows_trading_key = values.get("allows_trading_key", False)
        try:
            credentials = VENUES[venue].credentials_type.parse(secrets_from_json(text))
            holding.try_key(self.instance, credentials, now=timezone.now())
        except ValueError:
            self.add_error("new_secrets", "This is not a JSON object.")
        except (CredentialsRejected, VenueError) as fault:
            self.add_error("new_secrets", str(fault))
        return values

    def _get_validation_exclusions(self) -> set[str]:
        # account_ref is not a field of this form, but its uniqueness must be checked before the database does.
        return super()._get_validation_exclusions() - {"account_ref"}  # type: ignore[misc, no-any-return]


@admin.register(ExchangeCredential)
class CredentialAdmin(admin.ModelAdmin[ExchangeCredential]):
    form = CredentialAdminForm
    list_display = ["label", "venue_name", "owner", "health_state", "health_text", "fresh_at", "is_enabled"]
    list_filter = ["venue", "health_state", "health_reason", "is_enabled"]
    search_fields = ["label", "account_ref"]
    actions = ["verify_now", "sync_now", "backfill_now", "retire_now"]
    readonly_fields = [
        "secrets_masked", "account_ref", "description", "health_state", "health_reason", "health_text", "health_at",
        "may_trade", "may_withdraw", "expires_at", "verified_at", "history_from", "fresh_at", "due_at", "leased_until",
        "created_at",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["owner", "venue", "label", "secrets_masked", "new_secrets"]}),
        ("Work", {"fields": ["is_enabled", "is_backfilling", "history_from", "fresh_at", "due_at", "leased_until"]}),
        ("Key", {"fields": [
            "account_ref", "description", "health_state", "health_reason", "health_text", "health_at", "may_trade",
            "may_withdraw", "allows_trading_key", "expires_at", "verified_at", "created_at",
        ]}),
    ]  # fmt: skip

    @admin.display(description="Secrets")
    def secrets_masked(self, credential: ExchangeCredential) -> str:
        return "•••••••• (stored encrypted)" if credential.pk else "none yet"

    def get_readonly_fields(self, request: HttpRequest, obj: ExchangeCredential | None = None) -> list[str]:
        return [*self.readonly_fields, "owner", "venue"] if obj else list(self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: ExchangeCredential, form: Any, change: bool) -> None:
        now = timezone.now()
        if not change:
            obj.history_from, obj.due_at = history_start(now), now
            obj.save()
            holding.ask_for_reading(obj, now=now)
            return
        columns = [name for name in form.changed_data if name != "new_secrets"]
        obj.save(update_fields=columns)  # only what was changed here: a sync may be writing the rest
        if "new_secrets" in form.changed_data:
            holding.store_key(obj, now=now)
        else:
            holding.ask_for_reading(obj, now=now)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What was read from an account goes with it, though none of it can be removed on its own."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected

    def delete_model(self, request: HttpRequest, obj: ExchangeCredential) -> None:
        holding.remove(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for credential in queryset:
            holding.remove(credential)

    @admin.action(description="Verify the key")
    def verify_now(self, request: HttpRequest, queryset: Any) -> None:
        for credential in queryset:
            try:
                works, said = holding.reverify(credential, now=timezone.now()), credential.health_text
            except (BudgetSpent, holding.Retired) as fault:
                works, said = False, str(fault)
            self.message_user(request, f"{credential}: {said}", messages.SUCCESS if works else messages.WARNING)

    @admin.action(description="Sync now")
    def sync_now(self, request: HttpRequest, queryset: Any) -> None:
        ready = queryset.filter(is_enabled=True)
        for credential in ready:
            holding.ask_for_reading(credential, now=timezone.now())
        self.message_user(request, f"{ready.count()} accounts are being read.")

    @admin.action(description="Retire: remove the key, keep the history", permissions=["delete"])
    def retire_now(self, request: HttpRequest, queryset: Any) -> None:
        left = list(queryset.filter(retired_at=None))
        for credential in left:
            holding.retire(credential, now=timezone.now())
        self.message_user(request, f"{len(left)} accounts have no key any more. Their history stays, and counts.")

    @admin.action(description="Backfill all that is missing")
    def backfill_now(self, request: HttpRequest, queryset: Any) -> None:
        ready = queryset.filter(is_enabled=True)
        for credential in ready:
            holding.ask_for_reading(credential, now=timezone.now(), backfill=True)
        self.message_user(request, f"{ready.count()} accounts are being read back to their beginning.")


@admin.register(DailyVolume)
class DailyVolumeAdmin(ReadOnlyAdmin):
    list_display = [
        "day", "credential", "symbol", "fills", "notional_usd", "maker_usd", "taker_usd", "forced_usd", "fees_usd",
    ]  # fmt: skip
    list_filter = ["credential__venue", "credential"]
    search_fields = ["symbol"]
    date_hierarchy = "day"
    list_select_related = ["credential"]
    sortable_by = ["day", "credential", "symbol", "fills", "notional_usd"]


@admin.register(AssetPrice)
class AssetPriceAdmin(ReadOnlyAdmin):
    list_display = ["asset", "day", "usd", "source", "observed_at", "is_final"]
    list_filter = ["is_final", "asset"]
    search_fields = ["asset", "source"]
    sortable_by = ["asset", "day", "source", "observed_at"]  # decimals kept as text do not sort as numbers
    date_hierarchy = "day"
    actions = ["ask_again"]

    def has_ask_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("volume.change_assetprice")

    @admin.action(description="Ask CoinGecko for these prices again", permissions=["ask"])
    def ask_again(self, request: HttpRequest, queryset: Any) -> None:
        count = queryset.update(is_final=False, observed_at=None)
        self.message_user(request, f"{count} prices are asked for within the hour; until then these stay in use.")


@admin.register(VolumeCheck)
class VolumeCheckAdmin(ReadOnlyAdmin):
    list_display = ["checked_at", "credential", "found", "fills", "days"]
    list_filter = ["credential"]
    list_select_related = ["credential"]
    date_hierarchy = "checked_at"

"""Fills, ledger, runs and held rows in the admin: for reading. Credentials are in volume.admin, with their actions."""

from typing import Any

from django.contrib import admin

from exchanges.models import Coverage, Fill, HeldRow, Retraction, SyncRun


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Facts and derived rows are looked at, not edited."""

    show_full_result_count = False

    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = [
        "executed_at", "credential", "symbol", "side", "liquidity", "kind", "price", "qty", "notional", "fee",
        "fee_asset",
    ]  # fmt: skip
    list_filter = ["kind", "side", "liquidity", "credential"]
    sortable_by = ["executed_at", "credential", "symbol", "notional"]  # decimals kept as text do not sort as numbers
    search_fields = ["symbol", "fill_id"]
    date_hierarchy = "executed_at"
    list_select_related = ["credential"]
    ordering = ["-executed_at"]


@admin.register(Coverage)
class CoverageAdmin(ReadOnlyAdmin):
    list_display = ["credential", "stream", "from_at", "until_at", "state", "reason"]
    list_filter = ["state", "credential"]
    list_select_related = ["credential"]


@admin.register(HeldRow)
class HeldRowAdmin(ReadOnlyAdmin):
    list_display = ["seen_at", "credential", "why", "executed_at"]
    list_filter = ["credential"]
    list_select_related = ["credential"]
    date_hierarchy = "seen_at"


@admin.register(Retraction)
class RetractionAdmin(ReadOnlyAdmin):
    list_display = ["seen_at", "credential", "fill_id", "why"]
    list_filter = ["credential"]
    list_select_related = ["credential"]
    search_fields = ["fill_id"]


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    list_display = [
        "started_at", "credential", "trigger", "outcome", "requests", "rows", "new", "seen", "held", "retracted",
        "message",
    ]  # fmt: skip
    list_filter = ["outcome", "trigger", "credential"]
    list_select_related = ["credential"]
    date_hierarchy = "started_at"

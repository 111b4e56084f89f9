"""People, their tokens and what was done, in the admin."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from accounts.models import ApiToken, AuditEvent, User


class LoggedOneByOne(admin.ModelAdmin[Any]):
    """Of many rows removed at once, each is noted in the log of what was done; Django's bulk tells nobody."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            super().log_deletions(request, [row])  # type: ignore[arg-type]  # anything to walk is well enough


@admin.register(User)
class PersonAdmin(LoggedOneByOne, UserAdmin):  # type: ignore[type-arg]
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What is a person's goes with them, though some of it can't be removed on its own."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected


@admin.register(ApiToken)
class ApiTokenAdmin(LoggedOneByOne):
    """Lists and revokes. Making one is the owner's, on a page that shows the token once."""

    list_display = ["name", "owner", "scope", "created_at", "last_used_at"]
    list_filter = ["scope"]
    readonly_fields = ["owner", "name", "scope", "created_at", "last_used_at"]

    def has_add_permission(self, request: object) -> bool:
        return False


@admin.register(AuditEvent)
class AuditEventAdmin(admin.ModelAdmin[AuditEvent]):
    """What was done stays as it was written."""

    list_display = ["at", "owner", "what", "about", "actor", "way", "token", "address"]
    list_filter = ["way", "what"]
    list_select_related = ["owner"]
    search_fields = ["actor", "about", "address"]
    date_hierarchy = "at"
    show_full_result_count = False

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_change_permission(self, request: object, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False

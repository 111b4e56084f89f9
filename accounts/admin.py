"""People in the admin."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from accounts.models import ApiToken, User

admin.site.register(User, UserAdmin)


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Lists and revokes. Making one is a command, which shows the token once."""

    list_display = ["name", "owner", "created_at", "last_used_at"]
    readonly_fields = ["owner", "name", "created_at", "last_used_at"]

    def has_add_permission(self, request: object) -> bool:
        return False

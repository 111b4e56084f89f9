"""People, their tokens and what was done, in the admin."""

from typing import Any

from allauth.account.decorators import reauthentication_required
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator

from accounts.audit import note
from accounts.models import ApiToken, AuditEvent, User

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")


class LoggedOneByOne(admin.ModelAdmin[Any]):
    """Of many rows removed at once, each is noted in the log of what was done; Django's bulk tells nobody."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            super().log_deletions(request, [row])  # type: ignore[arg-type]  # anything to walk is well enough


class Careful(admin.ModelAdmin[Any]):
    """What decides who gets in asks whoever changes it once more who they are, if that was a while ago."""

    @method_decorator(reauthentication_required(allow_get=True))
    def changelist_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changelist_view(*args, **kwargs)

    @method_decorator(reauthentication_required)
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    @method_decorator(reauthentication_required)
    def delete_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().delete_view(*args, **kwargs)


class PasswordForm(AdminPasswordChangeForm):  # type: ignore[type-arg]
    def save(self, commit: bool = True) -> User:
        """The log says so to whose password it is, beside what was done in the admin."""
        person: User = super().save(commit)
        note(person.pk, "password_changed")
        return person


@admin.register(User)
class PersonAdmin(Careful, UserAdmin):  # type: ignore[type-arg]
    """Who was here stays, shut out or not, as the log of what was done names them. Only owners make owners."""

    change_password_form = PasswordForm

    @method_decorator(reauthentication_required)
    def user_change_password(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().user_change_password(*args, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        is_above = obj is not None and obj.is_superuser and not request.user.is_superuser
        return not is_above and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return () if request.user.is_superuser else RIGHTS


@admin.register(ApiToken)
class ApiTokenAdmin(Careful, LoggedOneByOne):
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

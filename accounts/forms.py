"""The form with which the first visitor becomes the owner."""

from django.contrib.auth.forms import UserCreationForm

from accounts.models import User


class WelcomeForm(UserCreationForm[User]):
    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)

    def validate_password_for_user(self, user: User, password_field_name: str = "password1") -> None:  # noqa: S107
        """What is wrong with the password itself stands beside it; beside its repetition, only that they differ."""
        super().validate_password_for_user(user, password_field_name)  # type: ignore[misc]  # newer than its stubs

    def save(self, commit: bool = True) -> User:
        user = super().save(commit=False)
        user.is_staff = user.is_superuser = True  # the owner of the installation also has its admin
        if commit:
            user.save()
        return user

"""The form with which the first visitor becomes the owner."""

from django.contrib.auth.forms import UserCreationForm

from accounts.models import User


class WelcomeForm(UserCreationForm[User]):
    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)

    def save(self, commit: bool = True) -> User:
        user = super().save(commit=False)
        user.is_staff = user.is_superuser = True  # the owner of the installation also has its admin
        if commit:
            user.save()
        return user

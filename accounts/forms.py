"""The forms people sign in, join and change their sign-in with. Those of allauth say what they ask in our words."""

from contextlib import suppress
from typing import Any

from allauth.account import forms as account
from allauth.account.adapter import get_adapter as account_adapter
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as mfa
from allauth.mfa.totp import forms as totp
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY
from allauth.mfa.webauthn import forms as webauthn
from django import forms
from django.conf import settings
from django.contrib.auth.forms import UserCreationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.models import Invitation, User

NOT_THE_SAME = "The two are not the same."
LETTERS = "Letters, digits and @ . + - _ only."


class NewPersonForm(UserCreationForm[User]):
    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username",)
        error_messages = {"username": {"unique": "This name is taken.", "invalid": LETTERS}}

    error_messages = {"password_mismatch": NOT_THE_SAME}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password2"].label = "Password again"

    def validate_password_for_user(self, user: User, password_field_name: str = "password1") -> None:  # noqa: S107
        """What is wrong with the password itself stands beside it; beside its repetition, only that they differ."""
        super().validate_password_for_user(user, password_field_name)  # type: ignore[misc]  # newer than its stubs


class WelcomeForm(NewPersonForm):
    """The first visitor's, who becomes the owner."""

    def save(self, commit: bool = True) -> User:
        user = super().save(commit=False)
        user.is_staff = user.is_superuser = True  # the owner of the installation also has its admin
        if commit:
            user.save()
        return user


class JoinForm(NewPersonForm):
    """An invited person's. The address is not the person's before it is confirmed, and so need not be unique here."""

    address = forms.EmailField(
        label="E-mail", required=False, help_text="For a forgotten password, and to tell you when your sign-in changes."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.MAIL:
            del self.fields["address"]


class InviteForm(forms.ModelForm[Invitation]):
    class Meta:
        model = Invitation
        fields = ("note",)
        labels = {"note": "For whom"}
        help_texts = {"note": "A note for you: nobody else sees it."}


# --- allauth's, without its placeholders, which say the label once more ----------------------------------------------


HOW_TO_TYPE = {
    "login": {"autofocus": True, "autocapitalize": "none", "spellcheck": "false"},
    "code": {"autofocus": True, "inputmode": "numeric"},
}


class Plain(forms.Form):
    labels: dict[str, str] = {}
    helps: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs.pop("placeholder", None)
            field.label = self.labels.get(name, field.label)
            field.help_text = self.helps.get(name, "")
            field.widget.attrs |= HOW_TO_TYPE.get(name, {})


NEW_PASSWORD = {
    "labels": {"password1": "New password", "password2": "New password again"},
    "helps": {"password1": "At least 8 characters, and not a common one."},
}
CODE = {"code": "Code"}


class Twice(Plain):
    """A new password, and once more the same."""

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field, NOT_THE_SAME if field == "password2" else error)


class SignInForm(Plain, account.LoginForm):  # type: ignore[misc]
    pass


class PasswordAgainForm(Plain, account.ReauthenticateForm):  # type: ignore[misc]
    pass


class NewPasswordForm(Twice, account.ChangePasswordForm):  # type: ignore[misc]
    labels = NEW_PASSWORD["labels"] | {"oldpassword": "Current password"}
    helps = NEW_PASSWORD["helps"]

    def clean_oldpassword(self) -> str:
        """Asked as at a sign-in: a wrong one is noted, and counts as a try."""
        password: str = self.cleaned_data["oldpassword"]
        if not account_adapter().reauthenticate(self.user, password):
            raise account_adapter().validation_error("enter_current_password")
        return password


class FirstPasswordForm(Twice, account.SetPasswordForm):  # type: ignore[misc]
    labels, helps = NEW_PASSWORD["labels"], NEW_PASSWORD["helps"]


class ForgottenForm(Plain, account.ResetPasswordForm):  # type: ignore[misc]
    labels = {"email": "E-mail"}
    users: list[User]

    def clean_email(self) -> str:
        """Mail goes to an address that is its person's, not to one somebody only claims."""
        email: str = super().clean_email()
        confirmed = EmailAddress.objects.filter(email=email.lower(), verified=True).values_list("user_id", flat=True)
        self.users = [user for user in self.users if user.pk in confirmed or user.email == email.lower()]
        return email


class ResetForm(Twice, account.ResetPasswordKeyForm):  # type: ignore[misc]
    labels, helps = NEW_PASSWORD["labels"], NEW_PASSWORD["helps"]


class EmailForm(Plain, account.AddEmailForm):  # type: ignore[misc]
    labels = {"email": "E-mail"}

    def save(self, request: HttpRequest) -> EmailAddress:
        address: EmailAddress = EmailAddress.objects.add_new_email(
            request, self.user, self.cleaned_data["email"], send_verification=settings.MAIL
        )
        return address


class CodeForm(Plain, mfa.AuthenticateForm):  # type: ignore[misc]
    labels = CODE


class CodeAgainForm(Plain, mfa.ReauthenticateForm):  # type: ignore[misc]
    labels = CODE


class AppForm(Plain, totp.ActivateTOTPForm):  # type: ignore[misc]
    """Until its first code fits, the secret waits in the session, which is a row of the database: sealed."""

    labels = {"code": "Code from the app"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        adapter, session = get_adapter(), context.request.session
        sealed = session.pop(SECRET_SESSION_KEY, None)
        super().__init__(*args, **kwargs)  # a new secret, and in clear in the session, which is saved later
        if self.is_bound and sealed:
            with suppress(ValidationError):  # the installation's keys changed meanwhile: the new one is scanned
                self.secret = adapter.decrypt(sealed)
        session[SECRET_SESSION_KEY] = adapter.encrypt(self.secret)


# What reading something else ends in.
NO_PASSKEY = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


class PasskeyField(forms.JSONField):
    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except NO_PASSKEY:
            raise get_adapter().validation_error("incorrect_passkey") from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        return None  # it is of one moment, and not shown again


class KnownPasskey(forms.Form):
    credential = PasskeyField()

    def clean_credential(self) -> Any:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except (*NO_PASSKEY, ValidationError):
            raise get_adapter().validation_error("incorrect_passkey") from None


class PasskeySignInForm(KnownPasskey, webauthn.LoginWebAuthnForm):  # type: ignore[misc]
    pass


class PasskeyStepForm(KnownPasskey, webauthn.AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class PasskeyAgainForm(KnownPasskey, webauthn.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class PasskeyForm(Plain, webauthn.AddWebAuthnForm):  # type: ignore[misc]
    """Every passkey is one that signs in alone; each is also a second factor."""

    labels = {"name": "Name"}
    helps = {"name": "So that you know it again, as “Phone” or “Password manager”."}
    passwordless = forms.BooleanField(widget=forms.HiddenInput, initial=True)
    credential = PasskeyField()

    def clean_name(self) -> str:
        return str(super().clean_name())[:80]

    def clean(self) -> Any:
        try:
            return super().clean()
        except (*NO_PASSKEY, ValidationError):
            raise get_adapter().validation_error("incorrect_passkey") from None


class PasskeyNameForm(Plain, webauthn.EditWebAuthnForm):  # type: ignore[misc]
    labels = {"name": "Name"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].widget.attrs["maxlength"] = 80
        self.fields["name"].max_length = 80  # type: ignore[attr-defined]

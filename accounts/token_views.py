"""The page on which people make tokens for programs, and end them."""

from typing import Any

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache

from accounts.audit import note
from accounts.models import ApiToken, User

MOST = 50  # tokens of one person: more than anybody keeps an eye on


class TokenForm(forms.ModelForm[ApiToken]):
    class Meta:
        model = ApiToken
        fields = ("name", "scope")
        labels = {"scope": "What it may do"}
        help_texts = {"name": "What it is for, as “spreadsheet”."}

    def __init__(self, owner: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner

    def clean_name(self) -> str:
        """A name of its own; so a page that is sent twice makes one token."""
        name: str = self.cleaned_data["name"]
        if self.owner.api_tokens.filter(name=name).exists():
            raise forms.ValidationError("A token of yours has this name already.")
        return name

    def clean(self) -> dict[str, Any] | None:
        if self.owner.api_tokens.count() >= MOST:
            raise forms.ValidationError(f"You have {MOST} tokens, and that is all there may be: revoke one first.")
        return super().clean()


@never_cache
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]
def tokens(request: HttpRequest) -> HttpResponse:
    """The tokens there are. One that was made just now is shown, in this one answer and never again."""
    owner: Any = request.user
    form, text, made = TokenForm(owner, request.POST or None), "", ""
    if request.method == "POST" and form.is_valid():
        made = form.cleaned_data["name"]
        text = ApiToken.issue(owner, made, form.cleaned_data["scope"])
        note(owner.pk, "token_made", made)
        form = TokenForm(owner)
    context = {"tokens": owner.api_tokens.all(), "form": form, "text": text, "made": made}
    return render(request, "accounts/tokens.html", context)


def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first. A program that uses the token is refused from then on."""
    token = get_object_or_404(ApiToken, pk=pk, owner_id=request.user.pk)
    if request.method == "POST":
        token.delete()
        note(token.owner_id, "token_revoked", token.name)
        messages.success(request, f"The token {token.name} is revoked.")
        return redirect("accounts:tokens")
    return render(request, "accounts/token_revoke.html", {"token": token})

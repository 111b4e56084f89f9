"""The form of an account: its fields follow from the venue's Credentials, so a new venue needs no form."""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from django import forms
from django.http import QueryDict

from exchanges.venues.base import Credentials, CredentialsRejected, Venue

LIKE_A_KEY = re.compile(r"[0-9a-fA-F]{60,}")


def secrets_from_json(text: str) -> dict[str, Any]:
    """A JSON object typed or piped in. Raises ValueError, which never repeats the text: it may hold a key."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object") from None
    return values


class CredentialForm(forms.Form):
    """Asks for a label and what the venue's Credentials need. `credentials` holds them once the form is valid."""

    label = forms.CharField(max_length=80, help_text="Your own name for it, as on the dashboard.")

    def __init__(self, venue: type[Venue], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.venue = venue
        self.credentials: Credentials | None = None
        for item in fields(venue.credentials_type):
            is_secret = not item.repr
            if choices := item.metadata.get("choices"):
                self.fields[item.name] = forms.ChoiceField(
                    label=item.metadata["label"],
                    help_text=item.metadata["help"],
                    choices=choices.items(),
                    required="optional" not in item.metadata,
                )
                continue
            self.fields[item.name] = forms.CharField(
                label=item.metadata["label"],
                help_text=item.metadata["help"],
                required="optional" not in item.metadata,
                max_length=5000,
                widget=forms.PasswordInput(attrs={"autocomplete": "off"}) if is_secret
                else forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            )  # fmt: skip
        if venue.may_hold_powers:
            self.fields["allow_trading_key"] = forms.BooleanField(
                label="Accept a key that can trade or withdraw",
                help_text="Not needed and not advised: perpdash only reads.",
                required=False,
            )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        names = [item.name for item in fields(self.venue.credentials_type)]
        if not self.errors:
            try:
                self.credentials = self.venue.credentials_type.parse({name: values.get(name) or "" for name in names})
            except CredentialsRejected as fault:
                self.add_error(names[0] if len(names) == 1 else None, str(fault))
                self._forget_keys(names)
        return values

    def _forget_keys(self, names: Sequence[str]) -> None:
        """What may be a private key, put where something public belongs, is not sent back with the form."""
        kept = {name: "" if LIKE_A_KEY.search(str(self.data.get(name, ""))) else self.data.get(name) for name in names}
        self.data = {**self.data.dict(), **kept} if isinstance(self.data, QueryDict) else {**self.data, **kept}

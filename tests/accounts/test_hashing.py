"""Passwords are hashed slowly, and never more of them at once than there is memory for."""

import threading
from time import sleep
from typing import Any

import argon2
import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher, check_password
from django.test import Client

from accounts.hashing import Argon2
from tests import factories


def test_many_who_sign_in_at_once_wait_for_one_another(monkeypatch):
    """What the C library is asked is counted; each of these would take 19 MiB, or 100 of an older hash."""
    encoded = Argon2().encode("secret", "salt-of-this-test")
    inside, most, start = [], [], threading.Barrier(12, timeout=20)

    def busy(*args: Any, **kwargs: Any) -> bytes:
        inside.append(None)
        most.append(len(inside))
        sleep(0.01)
        inside.pop()
        return encoded.removeprefix("argon2").encode()

    monkeypatch.setattr(argon2.low_level, "hash_secret", busy)
    monkeypatch.setattr(argon2.PasswordHasher, "verify", busy)

    def sign_in(number: int) -> None:
        start.wait()
        if number % 2:
            Argon2().encode("secret", "salt-of-this-test")
        else:
            Argon2().verify("secret", encoded)

    people = [threading.Thread(target=sign_in, args=[number]) for number in range(12)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(most) == 12
    assert max(most) <= 2


@pytest.mark.django_db
def test_a_hash_of_before_still_opens_and_is_made_anew():
    ada = factories.user("ada", password=Argon2PasswordHasher().encode(factories.PASSWORD, "salt-of-this-test"))
    assert Client().post("/sign-in/", {"login": "ada", "password": "wrong"}).status_code == 200
    assert Client().post("/sign-in/", {"login": "ada", "password": factories.PASSWORD}).status_code == 302
    ada.refresh_from_db()
    assert "$m=19456,t=2,p=1$" in ada.password
    assert check_password(factories.PASSWORD, ada.password)

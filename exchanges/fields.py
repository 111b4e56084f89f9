"""Database fields that keep what they are given: exact money, exact numbers, secrets that stay secret."""

import functools
from decimal import Decimal
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Aggregate
from django.db.models.lookups import Exact
from encrypted_fields.fields import EncryptedFieldMixin, EncryptedTextField

from exchanges.venues.base import EXACT

USD_PLACES = 8
USD_STEP = Decimal(1).scaleb(-USD_PLACES)


def to_usd_places(value: Decimal) -> Decimal:
    """Rounded half-even to the 8 decimals money is kept with."""
    return value.quantize(USD_STEP, context=EXACT)


def to_usd_units(value: Decimal) -> int:
    """Rounded half-even to whole units of 1e-8, as money is stored."""
    return int(EXACT.scaleb(EXACT.quantize(value, USD_STEP), USD_PLACES))


def as_units(amount: Decimal) -> int:
    """Whole units of 1e-8, as money is stored. Raises ValueError for more than 8 decimals."""
    units = amount.scaleb(USD_PLACES, EXACT)
    whole = int(units)
    if units != whole:
        raise ValueError(f"{amount} has more than {USD_PLACES} decimals: round it first, in one place")
    return whole


def plain(value: Decimal) -> str:
    """Digits without exponent and without trailing zeros: what people and JSON get to see."""
    text = str(value)
    if "E" in text:  # seldom; without it, this is the quicker way
        text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text and text[-1] == "0" else text


class UsdField(models.BigIntegerField):  # type: ignore[type-arg]
    """A Decimal with at most 8 places, stored as a whole number of 1e-8 units on every database.

    SQLite would keep a DecimalField as a binary float. A value with more places is an error, not rounded here.
    """

    def to_python(self, value: Any) -> Decimal | None:
        return value if value is None or isinstance(value, Decimal) else Decimal(str(value))

    def from_db_value(self, value: int | None, *_: object) -> Decimal | None:
        return None if value is None else Decimal(int(value)).scaleb(-USD_PLACES, EXACT)

    def get_prep_value(self, value: Any) -> int | None:
        amount = self.to_python(value)
        return None if amount is None else as_units(amount)


class ExactDecimalField(models.Field):  # type: ignore[type-arg]
    """A Decimal of any precision: numeric on PostgreSQL, text elsewhere. Never ordered or compared in SQL."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "numeric" if connection.vendor == "postgresql" else "text"

    def to_python(self, value: Any) -> Decimal | None:
        return value if value is None or isinstance(value, Decimal) else Decimal(str(value))

    def from_db_value(self, value: Any, *_: object) -> Decimal | None:
        return None if value is None else Decimal(str(value))

    def get_prep_value(self, value: Any) -> str | None:
        amount = self.to_python(value)
        return None if amount is None else plain(amount)


class UsdSum(Aggregate):
    """The exact sum of a UsdField; 0 without rows. SQLite's own SUM would overflow beyond 92 billion dollars."""

    function = "SUM"
    empty_result_set_value = Decimal(0)  # type: ignore[assignment]

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, output_field=UsdField(), **extra)

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **extra: Any) -> tuple[str, Any]:
        sql, params = compiler.compile(self.source_expressions[0])
        only = ""
        if self.filter is not None:
            condition, condition_params = compiler.compile(self.filter)
            only, params = f" FILTER (WHERE {condition})", (*params, *condition_params)
        return self._sqlite(sql, only), (*params, *params)

    @staticmethod
    def _sqlite(column: str, only: str = "") -> str:
        """Sums whole units and the rest apart."""
        limb = 10**USD_PLACES
        return f"(SUM({column} / {limb}){only} || ':' || SUM({column} %% {limb}){only})"

    @classmethod
    def sql(cls, column: str, connection: BaseDatabaseWrapper) -> str:
        """For a statement that is written out; `read` reads what it answers."""
        return cls._sqlite(column) if connection.vendor == "sqlite" else f"SUM({column})"

    @staticmethod
    def read(value: Any, *_: object) -> Decimal:
        """A sum as the database told it."""
        if isinstance(value, Decimal):  # of PostgreSQL: whole units
            return value.scaleb(-USD_PLACES, EXACT)
        if isinstance(value, str):
            whole, rest = value.split(":")
            value = int(whole) * 10**USD_PLACES + int(rest)
        return Decimal(int(value or 0)).scaleb(-USD_PLACES, EXACT)

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        return [self.read]


class DecimalSum(Aggregate):
    """The exact sum of an ExactDecimalField; 0 without rows. SQLite only strings the texts together: no binary fraction
    on the way, and no call into Python for every row."""

    function = "SUM"
    empty_result_set_value = Decimal(0)  # type: ignore[assignment]

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, output_field=ExactDecimalField(), **extra)

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **extra: Any) -> tuple[str, Any]:
        return super().as_sql(compiler, connection, function="GROUP_CONCAT", **extra)

    def convert_value(self, value: Any, *_: object) -> Decimal:
        return functools.reduce(EXACT.add, map(Decimal, str(value or 0).split(",")))

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        return [self.convert_value]


class SecretError(Exception):
    """A stored secret that can't be read with this installation's SECRET_KEY and SALT_KEY."""


UNREADABLE = (
    "The secrets of this account can't be read with this installation's SECRET_KEY and SALT_KEY. "
    "Start perpdash with the keys they were stored with, or put in the account's key again."
)


class Secret:
    """Text that does not show itself. `reveal()` is the only way out.

    As read from the database it stays sealed until then: a wrong key spoils no list and no page, only the one moment
    in which the text is needed, and what could not be read is written back as it was.
    """

    __slots__ = ("_text", "sealed")

    def __init__(self, text: str = "", *, sealed: str | None = None) -> None:
        self._text, self.sealed = text, sealed

    def reveal(self) -> str:
        """The text. Raises SecretError where this installation's keys can't open it."""
        if self.sealed is None:
            return self._text
        try:
            return cipher().decrypt(self.sealed.encode()).decode()
        except InvalidToken:
            raise SecretError(UNREADABLE) from None

    @property
    def is_current(self) -> bool:
        """Whether the newest key alone opens it, so that no older one is needed."""
        if self.sealed is None:
            return True
        try:
            newest_cipher().decrypt(self.sealed.encode())
        except InvalidToken:
            return False
        return True

    def renewed(self) -> "Secret":
        """The same text, sealed with the newest key. Raises SecretError as `reveal()` does."""
        return Secret(sealed=newest_cipher().encrypt(self.reveal().encode()).decode())

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"


@functools.lru_cache(4)
def _derived(secret_keys: tuple[str, ...], salts: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(EncryptedFieldMixin.keys.func(None))  # the package's own derivation


@functools.lru_cache(4)
def _cipher(keys: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def _keys() -> tuple[bytes, ...]:
    """Newest first: that of SECRET_KEY with the first SALT_KEY."""
    return _derived((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS), tuple(settings.SALT_KEY))


def cipher() -> MultiFernet:
    """Encrypts with the newest key, reads with all of them."""
    return _cipher(_keys())


def newest_cipher() -> MultiFernet:
    """Encrypts and reads with the newest key alone."""
    return _cipher(_keys()[:1])


class SecretField(EncryptedTextField):  # type: ignore[misc]
    """django-fernet-encrypted-fields without its traps.

    As shipped, a wrong key reads as ciphertext, one failed form validation makes the whole process read ciphertext,
    and dumps hold the plain text. Here only Secret.reveal() decrypts, and raises; dumps and lookups are refused.
    """

    def get_prep_value(self, value: Any) -> str | None:
        if value is None:
            return None
        secret = value if isinstance(value, Secret) else Secret(str(value))
        return secret.sealed or cipher().encrypt(secret.reveal().encode()).decode()

    def from_db_value(self, value: str | None, *_: object) -> Secret | None:
        return None if value is None else Secret(sealed=value)

    def to_python(self, value: Any) -> Secret | None:
        return value if value is None or isinstance(value, Secret) else Secret(value)

    def clean(self, value: Any, model_instance: models.Model | None) -> Secret | None:
        secret = self.to_python(value)
        self.validate(secret, model_instance)
        self.run_validators(secret)
        return secret

    def value_to_string(self, obj: models.Model) -> str:
        raise SecretError("Secrets are not exported.")

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name not in ("isnull", "sealed"):
            raise TypeError("an encrypted column can't be searched")
        return super().get_lookup(lookup_name)


@SecretField.register_lookup
class Sealed(Exact):
    """`secrets__sealed=ciphertext`: whether the column still holds exactly this."""

    lookup_name = "sealed"

    def get_prep_lookup(self) -> str:
        return str(self.rhs)  # and not encrypted anew

    def get_rhs_op(self, connection: BaseDatabaseWrapper, rhs: str) -> str:
        return f"= {rhs}"

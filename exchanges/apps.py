"""The exchanges app, and the one place that knows whether venues are real."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.conf import settings

if TYPE_CHECKING:
    from exchanges.sandbox import Sandbox


class ExchangesConfig(AppConfig):
    name = "exchanges"
    sandbox: "Sandbox | None" = None  # where set, every venue is answered in process by its sandbox
    sleep: Callable[[float], None] = staticmethod(time.sleep)

    def ready(self) -> None:
        from exchanges import checks  # noqa: F401  # registers itself

        if settings.SANDBOX:
            from exchanges.sandbox import Sandbox

            self.sandbox = Sandbox(metered=False)

"""What a report of a fault of ours shows: where it happened, and no value that was there."""

import re
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class ReportFilter(SafeExceptionReporterFilter):
    """Of variables their types, of forms the names of their fields, in mails and on Django's page in development alike.

    Django hides what is called a secret, and in development nothing. A key may be in a variable or field of any name.
    """

    # An address may hold a password.
    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|URL|LOCATION|DSN", re.IGNORECASE
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return dict.fromkeys(super().get_post_parameters(request), self.cleansed_substitute)

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: Any) -> Any:
        return [(name, type(value).__qualname__) for name, value in tb_frame.f_locals.items()]

"""What every page may say of the installation it belongs to."""

from django.conf import settings
from django.http import HttpRequest


def installation(request: HttpRequest) -> dict[str, bool]:
    """A context processor."""
    return {"is_sandbox": settings.SANDBOX}

"""Wiring: settings, addresses, processes. No business."""

from perpdash import starting  # noqa: F401  # registers its checks, and listens to worker and beat
from perpdash.celery import app as celery_app

__all__ = ["celery_app"]

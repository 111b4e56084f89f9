"""Wiring: settings, addresses, processes. No business."""

from perpdash.celery import app as celery_app

__all__ = ["celery_app"]

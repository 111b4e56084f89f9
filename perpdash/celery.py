"""The Celery application. Its settings are the CELERY_ ones of settings.py."""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "perpdash.settings")

app = Celery("perpdash")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _leave_logging_alone(**_: object) -> None:
    """Workers and beat write as every other process does: LOGGING of settings.py, and no -l."""

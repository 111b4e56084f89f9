"""Connections to PostgreSQL, kept for whoever asks next: making one takes longer than most of what is asked over it."""

from celery.signals import worker_init
from django.db import connection, connections

# More than a worker has threads. One more is made when none is free, and let go after a quiet minute. That a database
# went away is known soon, before those who wait for a page, or for a socket to open, have lost patience.
KEPT = {"min_size": 0, "max_size": 32, "max_idle": 60.0, "timeout": 2.0, "reconnect_timeout": 1.0}


@worker_init.connect
def keep_connections(**_: object) -> None:
    """From now on the threads of this process share connections. For web and worker: the session of a command, with
    what it locked and set, ends with the command."""
    if connection.vendor == "postgresql":
        connections.close_all()  # what was asked while starting was asked over one of its own
        connections.settings["default"]["OPTIONS"]["pool"] = KEPT
        connections.settings["default"]["CONN_HEALTH_CHECKS"] = True  # one that was cut meanwhile is given to nobody

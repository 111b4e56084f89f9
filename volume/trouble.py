"""Trouble of perpdash's own: its database or its Redis, not a venue. What it is, whose turn it is, and who was told."""

import sqlite3

import kombu.exceptions
import psycopg
import redis
from django.core.cache import cache
from django.db import Error, InterfaceError, InternalError, OperationalError

TROUBLE, TOLD_FOR = "trouble", 20  # of cache keys the beginning; seconds. Whoever meets it again tells it again
FAULTS = (OperationalError, InterfaceError, InternalError, redis.RedisError, kombu.exceptions.OperationalError)
WORDS = {
    "database gone": "perpdash's database does not answer. Whoever runs perpdash starts it again",
    "database full": "The disk of perpdash's database is full. Whoever runs perpdash makes room",
    "database closed": "perpdash's database takes nothing new: it may only be read. Whoever runs perpdash opens it",
    "database busy": "perpdash's database is held up: something keeps it locked. Whoever runs perpdash ends that",
    "redis gone": "perpdash's Redis does not answer. Whoever runs perpdash starts it again",
    "redis full": "perpdash's Redis takes nothing new: it is full. Whoever runs perpdash makes room",
    "redis unsaved": "perpdash's Redis takes nothing new: it can't save to its disk. Whoever runs perpdash mends that",
    "redis closed": "perpdash's Redis takes nothing new: it may only be read. Whoever runs perpdash opens it",
}
PARTS = ("database", "redis")
THEN = "; reading goes on by itself then. Nothing that is stored is lost."
REDIS = {"maxmemory": "full", "MISCONF": "unsaved", "read only": "closed"}  # by what it says, also within a pipeline
SQLITE = {
    sqlite3.SQLITE_FULL: "database full",
    sqlite3.SQLITE_IOERR: "database full",  # what a full disk also looks like
    sqlite3.SQLITE_CANTOPEN: "database gone",
    sqlite3.SQLITE_READONLY: "database closed",
    sqlite3.SQLITE_BUSY: "database busy",
    sqlite3.SQLITE_LOCKED: "database busy",
}
POSTGRES = {
    psycopg.errors.DiskFull: "database full",
    psycopg.errors.ReadOnlySqlTransaction: "database closed",
    psycopg.errors.LockNotAvailable: "database busy",
    psycopg.errors.DeadlockDetected: "database busy",
    psycopg.errors.QueryCanceled: "database busy",
    psycopg.InterfaceError: "database gone",
    psycopg.OperationalError: "database gone",
}


def words(fault: BaseException | None) -> str:
    """What failed and what helps, in a sentence; empty for whatever is no such trouble."""
    kind = _kind(fault)
    return WORDS[kind] + THEN if kind else ""


def _kind(fault: BaseException | None) -> str:
    if isinstance(fault, redis.RedisError | kombu.exceptions.OperationalError):
        return f"redis {of_redis(fault)}"
    return _of_database(fault) if isinstance(fault, Error) else ""


def of_redis(fault: Exception) -> str:
    """Why it takes nothing new, in a word; else it is gone."""
    return next((kind for words, kind in REDIS.items() if words in str(fault)), "gone")


def _of_database(fault: Error) -> str:
    cause = fault.__cause__
    if cause is None and isinstance(fault, InterfaceError):
        return "database gone"  # Django's own word: the connection was cut before
    if isinstance(cause, sqlite3.Error):
        return SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "")
    return next((kind for error, kind in POSTGRES.items() if isinstance(cause, error)), "")


def note(fault: BaseException | None) -> None:
    """Tells it to all pages for a while, if it is such trouble."""
    if kind := _kind(fault):
        cache.set(f"{TROUBLE}/{kind.split()[0]}", kind, TOLD_FOR)


def of(part: str) -> str:
    """What is wrong right now with the database or with redis, in a sentence; empty as far as is known."""
    return _of(part, cache.get(f"{TROUBLE}/{part}", ""))


def now() -> str:
    """What is wrong right now with either, in sentences."""
    told = cache.get_many([f"{TROUBLE}/{part}" for part in PARTS])
    return " ".join(filter(None, (_of(part, told.get(f"{TROUBLE}/{part}", "")) for part in PARTS)))


def _of(part: str, kind: str) -> str:
    if part == "redis" and (known := getattr(cache, "trouble", "")):  # our cache asks it all the time
        kind = f"redis {known}"
    return WORDS[kind] + THEN if kind else ""

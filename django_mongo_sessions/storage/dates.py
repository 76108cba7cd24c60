"""Moments as MongoDB stores them: aware UTC, in whole milliseconds."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from django.utils import timezone as django_timezone

EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
LATEST = datetime.max.replace(microsecond=999_000, tzinfo=timezone.utc)  # BSON holds milliseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """Return the current time as aware UTC in whole milliseconds, as BSON stores it."""
    return _EPOCH + _MILLISECOND * (time.time_ns() // 1_000_000)


def utc(date: datetime) -> datetime:
    """Return a date as aware UTC, clamped to what `datetime` and BSON can hold.

    A naive date is interpreted in `TIME_ZONE`, as Django does.
    """
    if date.tzinfo is None:
        date = date.replace(tzinfo=django_timezone.get_default_timezone())
    try:
        date = date.astimezone(timezone.utc)
    except OverflowError:  # within a day of the first or the last date of all
        date = EARLIEST if date.year == 1 else LATEST
    return min(date, LATEST)


def add_seconds(date: datetime, seconds: float) -> datetime:
    """Return the moment that many seconds after a date, or the last that can be stored."""
    try:
        return min(date + timedelta(seconds=seconds), LATEST)
    except OverflowError:
        return LATEST


def in_zone_of(other: datetime, date: datetime) -> datetime:
    """Return a date in the time zone of another; naive, in `TIME_ZONE`, if the other is naive."""
    zone = other.tzinfo or django_timezone.get_default_timezone()
    return date.astimezone(zone).replace(tzinfo=other.tzinfo)


def local(date: datetime) -> datetime:
    """Return a date in the current time zone; naive, in UTC, if that zone does not have it."""
    try:
        return django_timezone.localtime(date)
    except OverflowError:
        return date.replace(tzinfo=None)  # or Django would try to convert it again

"""Moments as MongoDB stores them: aware UTC, in whole milliseconds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from django.utils import timezone as django_timezone

_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
_LATEST = datetime.max.replace(microsecond=999_000, tzinfo=timezone.utc)  # BSON holds milliseconds


def utc_now() -> datetime:
    """Return the present as aware UTC in whole milliseconds, as BSON stores it."""
    now = datetime.now(timezone.utc)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def utc(date: datetime) -> datetime:
    """Return a date as aware UTC, within what `datetime` and BSON hold.

    A naive date is taken in `TIME_ZONE`, as Django takes it.
    """
    if date.tzinfo is None:
        date = date.replace(tzinfo=django_timezone.get_default_timezone())
    try:
        date = date.astimezone(timezone.utc)
    except OverflowError:  # within a day of the first or the last date there is
        date = furthest(date.year == 1)
    return min(date, _LATEST)


def later(date: datetime, seconds: float) -> datetime:
    """Return the moment so many seconds after a date, or the last that can be stored."""
    try:
        return min(date + timedelta(seconds=seconds), _LATEST)
    except OverflowError:
        return _LATEST


def like(other: datetime, date: datetime) -> datetime:
    """Return a date in the time zone of another one; naive, in `TIME_ZONE`, if that one is."""
    zone = other.tzinfo or django_timezone.get_default_timezone()
    return date.astimezone(zone).replace(tzinfo=other.tzinfo)


def furthest(past: bool) -> datetime:
    """Return the first date that can be stored, or the last."""
    return _EARLIEST if past else _LATEST

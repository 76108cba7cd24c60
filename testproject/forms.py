"""The page's forms: what they accept, and how it becomes an argument of a session's method."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils import timezone
from django.utils.functional import lazy

# Browsers do not keep a cookie for longer.
LONGEST = timedelta(days=400)


def _tomorrow() -> datetime:
    return timezone.localtime() + timedelta(days=1)


def _say_time_zone() -> str:
    return f"In the current time zone, {timezone.get_current_timezone_name()}."


class GetKey(forms.Form):
    """A key to read."""

    key = forms.CharField(max_length=40, initial="book_name")


class SetKey(forms.Form):
    """A key and the value to store under it."""

    key = forms.CharField(
        max_length=40,
        initial="book_name",
        validators=[
            RegexValidator(r"^_", "Keys that begin with _ belong to Django.", inverse_match=True)
        ],
    )
    value = forms.CharField(
        # Short enough that no JSON in it nests too deeply for Python.
        max_length=1200,
        initial="Sherlock Holmes",
        help_text="Text, or JSON such as 42 or [1, 2].",
        widget=forms.Textarea(attrs={"rows": 1}),
    )

    def clean_value(self) -> Any:
        """Return the value of a text that is JSON, and any other text as it is."""
        text = self.cleaned_data["value"]
        try:
            value = json.loads(text)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
        except (ValueError, RecursionError):
            return text
        return value


class Seconds(forms.Form):
    """A number of seconds."""

    value = forms.IntegerField(
        label="Seconds", min_value=1, max_value=int(LONGEST.total_seconds()), initial=300
    )


class Minutes(forms.Form):
    """A number of minutes, as a timedelta."""

    value = forms.IntegerField(
        label="Minutes", min_value=1, max_value=LONGEST // timedelta(minutes=1), initial=30
    )

    def clean_value(self) -> timedelta:
        """Return the minutes as a timedelta."""
        return timedelta(minutes=self.cleaned_data["value"])


class Moment(forms.Form):
    """A moment in the future, as an aware datetime."""

    value = forms.DateTimeField(
        label="Date and time",
        initial=_tomorrow,
        help_text=lazy(_say_time_zone, str)(),
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}),
    )

    def clean_value(self) -> datetime:
        """Reject a moment that is past, or for which no browser would keep a cookie."""
        value: datetime = self.cleaned_data["value"]
        if not timezone.now() < value <= timezone.now() + LONGEST:
            raise ValidationError(f"Choose a moment within the next {LONGEST.days} days.")
        return value

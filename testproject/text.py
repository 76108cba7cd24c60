"""Values as the page shows them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=repr)


def moment(date: datetime) -> str:
    return f"{date:%Y-%m-%d %H:%M:%S} {date.tzname() or ''}".rstrip()


def in_words(seconds: int) -> str:
    """Return a duration in its two largest units."""
    words = []
    for unit, length in {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}.items():
        count, seconds = divmod(seconds, length)
        if count:
            words.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " and ".join(words[:2]) or "0 seconds"

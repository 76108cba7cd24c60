"""What the page's templates need beside Django's own filters: `{% load mongo_sessions %}`."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.translation import gettext, ngettext

from django_mongo_sessions.storage import dates

register = template.Library()
register.filter(dates.local)


@register.filter
def ago(moment: datetime) -> str:
    """Return how long ago a moment was, such as "5 minutes ago".

    Not `timesince`: in many languages, its words have another form after the one for "ago".
    """
    minutes = int((dates.utc_now() - moment).total_seconds()) // 60
    if minutes < 1:
        return gettext("just now")
    if minutes < 60:
        text = ngettext("%(count)d minute ago", "%(count)d minutes ago", minutes)
        return text % {"count": minutes}
    if (hours := minutes // 60) < 24:
        return ngettext("%(count)d hour ago", "%(count)d hours ago", hours) % {"count": hours}
    days = hours // 24
    return ngettext("%(count)d day ago", "%(count)d days ago", days) % {"count": days}

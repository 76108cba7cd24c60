"""From a `User-Agent` header to a name that a person recognizes, such as "Firefox on Linux".

Versions are left out: browsers freeze them, and they change under a session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.utils.translation import gettext, pgettext

# What the header contains, and what that is called. The order matters, since most browsers also
# name those that they descend from.
_BROWSERS = (
    ("Edg", "Edge"),  # Edge, EdgA, EdgiOS
    ("OPR/", "Opera"),
    ("OPT/", "Opera"),
    ("Opera", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("UCBrowser/", "UC Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("MSIE ", "Internet Explorer"),
    ("Trident/", "Internet Explorer"),
    ("Safari/", "Safari"),
)
_PLATFORMS = (
    ("CrOS", "ChromeOS"),
    ("iPhone", "iPhone"),
    ("iPod", "iPod"),
    ("iPad", "iPad"),
    ("Windows Phone", "Windows Phone"),
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("Macintosh", "macOS"),
    ("Mac OS X", "macOS"),
    ("FreeBSD", "FreeBSD"),
    ("OpenBSD", "OpenBSD"),
    ("Linux", "Linux"),
)
# A product of RFC 9110, as an application names itself: "MyApp/2.1 (…)".
_PRODUCT = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})")
_HANDHELD = {"Android", "iPad", "iPhone", "iPod", "Windows Phone"}
_ANY_BROWSER = "Mozilla"  # how each browser begins


@dataclass(frozen=True)
class Device:
    """A browser or application, and what it runs on.

    `str()` of it is its name in the active language, such as "Firefox on Linux".
    """

    #: Such as "Firefox", or the name of an application; None if the header does not tell.
    browser: str | None = None
    #: Such as "Linux" or "iPhone"; None if the header does not tell.
    platform: str | None = None

    @property
    def is_handheld(self) -> bool:
        """Whether it is a phone or a tablet. An iPad may pose as a Mac."""
        return self.platform in _HANDHELD

    def __str__(self) -> str:
        """Return the name in the active language."""
        if self.browser and self.platform:
            return gettext("%(browser)s on %(platform)s") % {
                "browser": self.browser,
                "platform": self.platform,
            }
        return self.browser or self.platform or pgettext("device", "Unknown device")


def device(user_agent: str | None) -> Device:
    """Return the device that a `User-Agent` header names; an unknown one for None."""
    text = user_agent or ""
    browser = _first(_BROWSERS, text) or _product(text)
    return Device(browser, _first(_PLATFORMS, text))


def _first(names: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((name for part, name in names if part in text), None)


def _product(text: str) -> str | None:
    found = _PRODUCT.match(text)
    return found[1] if found and found[1] != _ANY_BROWSER else None

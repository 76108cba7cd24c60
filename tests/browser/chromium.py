"""A Chromium, driven as its user would: by what is seen on the page, and by the keyboard."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

WAIT = 30  # seconds
# What browsers call themselves.
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
PHONE, DESKTOP = (360, 740), (1400, 900)


class Chromium:
    """A Chromium with a profile of its own.

    `size` is that of the window in CSS pixels, `dark` the preference for dark pages, `language`
    what the browser asks for, and `user_agent` what it calls itself. With a folder for
    `screenshots`, shoot() writes there.
    """

    def __init__(
        self,
        site: str,
        profile: Path,
        screenshots: Path | None = None,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        language: str = "en",
        user_agent: str | None = None,
    ) -> None:
        self.site, self.screenshots = site, screenshots
        options = webdriver.ChromeOptions()
        options.binary_location = _program("CHROMIUM", "chromium")
        for argument in (
            "--headless=new",
            "--no-sandbox",  # containers have no privilege for it, and the pages are our own
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size={},{}".format(*DESKTOP),  # in a smaller one, pictures are cut
            f"--user-data-dir={profile}",
            f"--accept-lang={language}",
            *([f"--user-agent={user_agent}"] if user_agent else []),
        ):
            options.add_argument(argument)
        service = webdriver.ChromeService(_program("CHROMEDRIVER", "chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        self.resize(*size)
        self.prefer_dark(dark)

    def resize(self, width: int, height: int) -> None:
        """Make the page this large, also below the smallest window of Chromium."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer_dark(self, dark: bool = True) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    # What its user does

    def visit(self, path: str) -> None:
        self.driver.get(self.site + path)

    def sign_in(self, user: Any, password: str) -> None:
        """Sign in on the page that asks for it, and wait for the next one."""
        self.fill("username", user.get_username())
        self.fill("password", password)
        with self.next_page():
            self.driver.switch_to.active_element.send_keys(Keys.ENTER)

    def fill(self, name: str, text: str) -> None:
        field = self.driver.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)

    def click(self, name: str) -> None:
        """Click the button or link with this accessible name, and wait for the next page."""
        with self.next_page():
            self.named(name).click()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()

    def tab_to(self, name: str) -> None:
        """Press Tab until the element with this accessible name has the focus."""
        for _ in range(100):
            self.press(Keys.TAB)
            if self.focused().accessible_name == name:
                return
        raise AssertionError(f"Tab does not come to {name!r}.")

    def next_page(self) -> _NextPage:
        """Return a context that waits at its end until another page is loaded."""
        return _NextPage(self.driver)

    # What its user sees

    @property
    def path(self) -> str:
        """The path of the page, with its query."""
        return self.driver.current_url.removeprefix(self.site)

    @property
    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def names(self) -> list[str]:
        """Return the accessible names of all buttons and links, in the order of the page."""
        return [each.accessible_name for each in self._clickable()]

    def named(self, name: str) -> WebElement:
        """Return the only button or link with this accessible name."""
        found = [each for each in self._clickable() if each.accessible_name == name]
        assert len(found) == 1, f"{len(found)} are named {name!r}, of {self.names()}"
        return found[0]

    def _clickable(self) -> Iterable[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, "button, a[href], input[type=submit]")

    def scrolls_sideways(self) -> bool:
        return self.driver.execute_script(
            "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
        )

    def violations(self, within: str = "html") -> list[str]:
        """Return what axe-core finds on the page, or within what a CSS selector matches."""
        self.driver.execute_script(_axe())
        report = self.driver.execute_async_script(
            "const done = arguments[1]; axe.run(arguments[0]).then(done, e => done(`${e}`))", within
        )
        assert isinstance(report, dict), report
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}"
            for each in report["violations"]
        ]

    def shoot(self, name: str) -> None:
        """Write a picture of the whole page, if a folder was given for it."""
        if self.screenshots is None:
            return
        self.screenshots.mkdir(parents=True, exist_ok=True)
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        (self.screenshots / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


class _NextPage:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def __enter__(self) -> None:
        self.driver.execute_script("window.isOld = true")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            WebDriverWait(self.driver, WAIT).until(
                lambda driver: driver.execute_script(
                    "return !window.isOld && document.readyState === 'complete'"
                )
            )


def _program(variable: str, name: str) -> str:
    """Return the path of a program: the one that the variable names, else the one on the PATH."""
    found = shutil.which(os.environ.get(variable, name))
    assert found, f"The tests need {name}: apt-get install chromium chromium-driver, or {variable}."
    return found


def _axe() -> str:
    package = metadata.distribution("axe-playwright-python")
    return Path(str(package.locate_file("axe_playwright_python/axe.min.js"))).read_text()

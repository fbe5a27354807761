"""The system's Chromium on the live page, and what it has to say."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Page, Request, async_playwright


class MissingBrowserError(Exception):
    """There is no Chromium; the message names what to install."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium. MissingBrowserError."""
    program = shutil.which("chromium")
    if program is None:
        raise MissingBrowserError("no Chromium: install the Debian package chromium")
    # Its sandbox refuses root, as whom containers run.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Heard:
    """What a page complained of, and where it asked."""

    complaints: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)

    def listen(self, page: Page) -> None:
        """Note all that `page` says from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        self.origins.add("/".join(request.url.split("/")[:3]))

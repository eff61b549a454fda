"""Draw docs/screenshot.png, the page in a chat, and docs/view.png, the live view.

Each is drawn in light mode and in dark mode. The names of the dark pictures end in -dark.png.

python -m tests.screenshots
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from playwright.sync_api import Browser, expect

from .browser import chromium
from .support import PATIENCE, ROOT, Gochat, Peer, join
from .test_view import Viewed, card, joined

Scheme = Literal["light", "dark"]

#: The chat in the picture: speaker, text, and the seconds before each message.
TALK = [
    ("Ann", "Hi Bob! Is the chat example on threads now?", 0),
    ("Bob", "It is. Where Go starts a goroutine, this starts a thread: two for each of us.", 5),
    ("Ann", "Only two? One that reads and one that writes?", 7),
    ("Bob", "Exactly. And one more for all of us together, the hub. It keeps the clients.", 5),
    ("Ann", "So who holds the lock on them?", 4),
    ("Bob", "Nobody. Only the hub touches them; the others send it messages on channels.", 9),
    ("Ann", "Share memory by communicating, then. And if somebody reads too slowly?", 5),
    ("Bob", "The buffer fills up, and the hub drops them. The rest of us notice nothing.", 7),
]


def picture(name: str, scheme: Scheme) -> Path:
    return ROOT / "docs" / f"{name}{'-dark' if scheme == 'dark' else ''}.png"


def say(speaker: Peer, count: int) -> None:
    for _ in range(count):
        speaker.send("Ann: hello")
        speaker.messages(1)


def draw_page(browser: Browser, scheme: Scheme) -> None:
    """Draw the page while Ann is typing, after a chat with Bob."""
    with Gochat("--addr", "127.0.0.1:8080") as gochat, join(gochat.port) as bob:
        context = browser.new_context(viewport={"width": 1000, "height": 500}, color_scheme=scheme)
        now = datetime(2025, 2, 14, 12, 19, 20)
        context.clock.install(time=now)
        page = context.new_page()
        page.goto("http://localhost:8080/")
        expect(page.locator("#status")).to_have_attribute("data-state", "connected")
        page.locator("#name").fill("Ann")
        for count, (name, text, seconds) in enumerate(TALK, 1):
            now += timedelta(seconds=seconds)
            page.clock.set_fixed_time(now)
            if name == "Bob":
                bob.send(f"Bob: {text}")
            else:
                page.locator("#msg").fill(text)
                page.locator("#msg").press("Enter")
            expect(page.locator(".message")).to_have_count(count)
        page.locator("#msg").fill("Just as in Go.")
        page.screenshot(path=picture("screenshot", scheme))
        context.close()


def draw_view(browser: Browser, scheme: Scheme) -> None:
    """Draw the view in slow motion, with four clients, two of which are held."""
    with ExitStack() as stack:
        chat = stack.enter_context(Viewed())
        view = browser.new_page(viewport={"width": 1000, "height": 600}, color_scheme=scheme)
        view.goto(chat.view_url)
        peers = [stack.enter_context(peer) for peer in joined(chat.port, 4)]
        chat.switch("hold", peers[1])
        say(peers[0], 100)
        chat.switch("hold", peers[3])
        say(peers[0], 158)
        expect(card(view, 2).locator(".reason")).to_have_text(re.compile("Gone"))
        chat.post("/slow?seconds=5")
        peers[0].send("Ann: hello")
        expect(view.locator("[data-turn=has]")).to_be_visible()
        expect(view.get_by_text("place 1 in line")).to_be_visible()
        view.screenshot(path=picture("view", scheme), full_page=True)


if __name__ == "__main__":
    expect.set_options(timeout=PATIENCE * 1000)
    with chromium() as browser:
        for scheme in get_args(Scheme):
            draw_page(browser, scheme)
            draw_view(browser, scheme)

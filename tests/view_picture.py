"""Draw docs/view.png: the live view of a chat in which one client is held and one was dropped.

python -m tests.view_picture
"""

from __future__ import annotations

import re
from contextlib import ExitStack

from playwright.sync_api import expect

from .browser import chromium
from .support import PATIENCE, ROOT, Peer
from .test_view import Viewed, card, joined


def say(speaker: Peer, count: int) -> None:
    for _ in range(count):
        speaker.send("hello")
        speaker.messages(1)


def draw() -> None:
    """Have four clients chat, hold two of them, and take the picture in slow motion."""
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        expect.set_options(timeout=PATIENCE * 1000)
        chat = stack.enter_context(Viewed())
        view = browser.new_page(viewport={"width": 1000, "height": 600})
        view.goto(chat.view_url)
        peers = [stack.enter_context(peer) for peer in joined(chat.port, 4)]
        chat.switch("hold", peers[1])
        say(peers[0], 100)
        chat.switch("hold", peers[3])
        say(peers[0], 158)
        expect(card(view, 2).locator(".reason")).to_have_text(re.compile("Gone"))
        chat.post("/slow?seconds=5")
        peers[0].send("hello")
        expect(view.locator("[data-turn=has]")).to_be_visible()
        expect(view.get_by_text("place 1 in line")).to_be_visible()
        view.screenshot(path=ROOT / "docs" / "view.png", full_page=True)


if __name__ == "__main__":
    draw()

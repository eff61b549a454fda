"""A line editor for a terminal. The only module that imports prompt_toolkit.

When a message arrives while a line is being typed, prompt_toolkit removes the line from the screen,
prints the message, and draws the line again, even if the line is wider than the terminal. The
standard library's readline cannot redraw a line.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from .session import Session

__all__ = ["edit_lines"]


async def edit_lines(session: Session) -> AsyncGenerator[str, None]:
    """Yield typed lines until Ctrl-D. Raises KeyboardInterrupt on Ctrl-C.

    Other output appears above the line that is being typed. Closing the generator restores the
    terminal.
    """
    # A line disappears when it is entered, and appears again when the server sends it back.
    editor: PromptSession[str] = PromptSession(erase_when_done=True, enable_suspend=True)

    def prompt() -> str:
        return f"{'' if session.connection else '(not connected) '}{session.name}> "

    with patch_stdout():
        while True:
            try:
                line = await editor.prompt_async(
                    prompt, set_exception_handler=False, handle_sigint=False
                )
            except EOFError:
                return
            yield line

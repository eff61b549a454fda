"""A line editor for a terminal, on prompt_toolkit. Nothing else knows that library.

A message may come while a line is being typed. prompt_toolkit takes the line off the screen, lets
the message be printed, and draws the line again with its cursor, whatever the line's width and the
terminal's. The module readline of the standard library cannot do that: it draws no line again that
something else has been printed over, and another thread may not ask it where the cursor is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from .session import Session

__all__ = ["edit_lines"]


async def edit_lines(session: Session) -> AsyncGenerator[str, None]:
    """Yield each line that is typed, until Ctrl-D. Raises KeyboardInterrupt after Ctrl-C.

    What is printed meanwhile comes above the line. Closing this leaves the terminal as it was.
    """
    # What was typed vanishes, and shows again when it comes back from the server.
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

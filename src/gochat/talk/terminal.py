"""A line editor for a terminal, on prompt_toolkit. Nothing else imports that library.

A message may arrive while a line is being typed. prompt_toolkit removes the line from the screen,
lets the message be printed, and redraws the line with its cursor, however wide the line and the
terminal are. The standard library's readline cannot do that: it does not redraw a line after other
output, and another thread must not ask it where the cursor is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from .session import Session

__all__ = ["edit_lines"]


async def edit_lines(session: Session) -> AsyncGenerator[str, None]:
    """Yield each typed line, until Ctrl-D. Raises KeyboardInterrupt after Ctrl-C.

    Other output appears above the line. Closing the generator restores the terminal.
    """
    # A typed line disappears, and reappears when it comes back from the server.
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

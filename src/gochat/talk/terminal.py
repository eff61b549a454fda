"""The line editor and the commands of a talk, on prompt_toolkit. Nothing else knows that library.

A message may come while a line is being typed. prompt_toolkit takes the line off the screen, lets
the message be printed, and draws the line again with its cursor, whatever the line's width and the
terminal's. The module readline of the standard library cannot do that: it draws no line again that
something else has been printed over, and another thread may not ask it where the cursor is.
"""

from __future__ import annotations

from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

from .flags import name
from .session import Session, note, show

__all__ = ["converse"]

_HELP = """\
/name NAME  be called NAME from now on; /name alone says the present name
/history    show again what has been said, with the time
/quit       end, as Ctrl-D does
/help       show this
Any other line is sent, one that begins with / only after a space. The arrow keys bring back what
was typed before."""


async def converse(session: Session) -> int:
    """Send each line that is typed, and obey commands. Returns the exit status.

    That is 0 after Ctrl-D or /quit, and 130 after Ctrl-C, as of a program that SIGINT has ended.
    Cancelling this leaves the terminal as it was.
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
                return 0
            except KeyboardInterrupt:
                return 130
            # Only a space in front makes a command a message: a line that was pasted may begin with
            # a line end or a tab.
            words = line.rstrip() if line.startswith(" ") else line.strip()
            word, _, rest = words.partition(" ")
            if word == "/quit":
                return 0
            if word == "/help":
                for each in _HELP.splitlines():
                    note(each)
            elif word == "/history":
                for clock, message in session.history:
                    show(f"{clock} {message}")
            elif word == "/name":
                _rename(session, rest.strip())
            elif word.startswith("/"):
                note(
                    f"not sent: there is no command {word[:40]}; there are /name, /history, /quit"
                    " and /help. Put a space first to send the line as it is"
                )
            else:
                session.say(line)


def _rename(session: Session, text: str) -> None:
    if text:
        try:
            session.name = name(text)
        except ValueError as error:
            note(str(error))
            return
    note(f"your name is {session.name}" if session.name else "you have no name")

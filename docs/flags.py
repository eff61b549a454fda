"""Write docs/run/flags.md, which lists the flags of each command as its parser defines them.

python -m docs.flags
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gochat.ops.flags import COMMANDS, new_parser

__all__ = ["PAGE", "page"]

PAGE: Final = Path(__file__).parent / "run" / "flags.md"

#: The commit of gorilla/websocket that all links name (`COMMIT` in twins.py, which needs Sphinx).
_COMMIT: Final = "e064f32e3674d9d79a8fd417b5bc06fa5c6cad8f"
_WEBSOCKET: Final = f"https://github.com/gorilla/websocket/blob/{_COMMIT}"
_CHAT: Final = f"{_WEBSOCKET}/examples/chat"

#: Go's counterparts of the flags of `gochat serve`, by the flag's name.
_IN_GO: Final = {
    "addr": f"[`-addr`]({_CHAT}/main.go#L13)",
    "write-wait": f"[`writeWait`]({_CHAT}/client.go#L18)",
    "pong-wait": f"[`pongWait`]({_CHAT}/client.go#L21)",
    "ping-period": f"[`pingPeriod`]({_CHAT}/client.go#L24)",
    "read-header-timeout": "`ReadHeaderTimeout` of `http.Server`, which the example does not set",
    "shutdown-timeout": "none: the program just ends",
    "max-message-size": f"[`maxMessageSize`]({_CHAT}/client.go#L27)",
    "send-buffer": f"[the capacity of `send`]({_CHAT}/client.go#L130)",
    "gomaxprocs": "`GOMAXPROCS`, which applies to all goroutines, not only to write pumps",
    "trust-proxy": "none: handlers read X-Forwarded-For themselves",
    "processes": "none: a Go process uses all cores",
    "trace": "the package `runtime/trace`, which the example does not use",
    "allow-origin": f"[`Upgrader.CheckOrigin`]({_WEBSOCKET}/server.go#L66), which the example does"
    " not set",
}

#: The pages that say more about a flag of `gochat serve`, by the flag's name.
_MORE: Final = {
    "trust-proxy": "proxy.md",
    "metrics-addr": "metrics.md",
    "view": "view.md",
    "relay": "scale.md",
    "processes": "scale.md",
    "trace": "trace.md",
}

_INTRODUCTION: Final = """\
# Flags

These tables contain the text of `gochat COMMAND --help`. You can also write each flag in Go's form,
with one dash: `-addr :8080`. Times are in seconds. If a value is invalid, or if a flag needs
another flag that is missing, the command says so in one line and exits with status 2.

[docs/flags.py](../flags.py) writes this page: `python -m docs.flags`.
"""

#: Matches the parts of a flag's help that are code.
_CODE: Final = re.compile(
    r"(?:gochat serve )?--[a-z][a-z-]*|pip install '\S+'|'\*:5000'|\w+://[\w.:/]+\w|GOCHAT_\w+"
)


def page() -> str:
    """Return the text of the page."""
    return _INTRODUCTION + "".join(
        f"\n## gochat {name}\n{_tables(parser, go=name == 'serve')}"
        for name, parser in new_parser(*COMMANDS)[1].items()
    )


def _tables(parser: argparse.ArgumentParser, *, go: bool) -> str:
    """Return the flags of a command as one table, or as one table for each group of flags.

    go: whether to add a column with Go's counterparts.
    """
    # argparse has no public way to list its groups.
    groups = {group.title: group._group_actions for group in parser._action_groups}
    plain = groups.pop("positional arguments") + groups.pop("options")
    parts = [(None, plain), *groups.items()]
    return "".join(
        (f"\n**{title[0].upper()}{title[1:]}**\n" if title else "") + f"\n{table}"
        for title, actions in parts
        if (table := _table(actions, go=go))
    )


def _table(actions: Sequence[argparse.Action], *, go: bool) -> str:
    rows = []
    for action in actions:
        if action.dest == "help":
            continue
        name = action.option_strings[0].lstrip("-") if action.option_strings else ""
        shown = " ".join(filter(None, [f"--{name}" * bool(name), str(action.metavar or "")]))
        # The default comes from the help, because some flags describe it only there.
        text, default = re.fullmatch(r"(.*?)(?: \(default:? (.*)\))?", action.help or "").groups()  # type: ignore[union-attr]
        row = [f"`{shown}`", default or "", _marked_up(text)]
        if go:
            row[2] += f". [More]({_MORE[name]})" if name in _MORE else ""
            row.append(_IN_GO.get(name, "none"))
        rows.append(row)
    head = ["Flag", "Default", "Meaning", *["In Go"] * go]
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _marked_up(text: str) -> str:
    """Return a flag's help as Markdown."""
    return _CODE.sub(r"`\g<0>`", re.sub(r"(?<!')([*<|])", r"\\\1", text))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

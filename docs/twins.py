"""Two directives that show parts of hub, client and main, in Go and in Python.

    go-part FILE DECLARATION   shows its content, a link to a part of a Go file and a description
    python-part FILE           shows the parts of a Python file that the option `names` lists

docs/why/three-files.md uses both directives. docs/why/asyncio.md uses `python-part` for gochat and
for the chat in asyncio.

This repository does not contain the Go text. If the configuration value `gochat_go` names a clone
of gorilla/websocket, `go-part` shows the Go text instead of its content.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective

__all__ = ["COMMIT", "awaits", "check_clone", "go_lines", "go_parts", "not_in_go", "python_lines"]

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = Path(__file__).parent / "why" / "three-files.md"

#: The folder of the three files in a clone of gorilla/websocket.
CHAT: Final = Path("examples", "chat")

#: The commit of gorilla/websocket that the page describes, and the SHA-256 of each Go file.
COMMIT: Final = "e064f32e3674d9d79a8fd417b5bc06fa5c6cad8f"
HASHES: Final = {
    "hub.go": "54ac0d161a6c432c7142ad6c3c655c87a1ba2fc76fa0cd9e08233c49077b8730",
    "client.go": "27eccc57bafcc15c880d6cb11d131310c2eafe75b8572d812c30ca3eb7dc1e0c",
    "main.go": "c5fc4a8442cf42cde80366cb480e5b282855f642acc492085fcd377f24dc5c1b",
}

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

#: Name of the part above a file's first declaration, with the docstring, imports and `__all__`.
TOP: Final = "imports"


class GoPart(NamedTuple):
    """A part of a Go file that the page describes.

    declaration: the beginning of the declaration's line. first, last: numbers of the part's first
    and last line at COMMIT. The file's first line has number 1.
    """

    file: str
    declaration: str
    first: int
    last: int


def go_parts() -> list[GoPart]:
    """Return the Go parts on the page, in order."""
    found = re.findall(
        r"\{go-part\} (\S+) (.+)\n\[.*?\]\(\S+/\1#L(\d+)(?:-L(\d+))?\)", PAGE.read_text()
    )
    return [
        GoPart(file, declaration, int(first), int(last or first))
        for file, declaration, first, last in found
    ]


def go_lines(code: str, declaration: str) -> tuple[int, int]:
    """Return the numbers of the first and last line of a declaration and the comment above it.

    The code's first line has number 1. declaration: the beginning of the declaration's line. Raises
    ValueError unless exactly one line begins with it.

    If that line ends with an opening brace or parenthesis, the declaration ends at the next line
    that begins with a closing one. gofmt ensures this.
    """
    lines = code.splitlines()
    found = [i for i, line in enumerate(lines) if line.startswith(declaration)]
    if len(found) != 1:
        raise ValueError(f"has {len(found) or 'no'} lines that begin with {declaration!r}")
    first = last = found[0]
    if lines[last].endswith(("{", "(")):
        while last + 1 < len(lines) and not lines[last].startswith(("}", ")")):
            last += 1
    while first and lines[first - 1].startswith("//"):
        first -= 1
    return first + 1, last + 1


def check_clone(clone: Path) -> Iterator[str]:
    """Yield a warning for each of the three files in a clone that differs from the one at COMMIT.

    Raises OSError if a file cannot be read, and ValueError if a file lacks a part of the page.
    """
    for file, wanted in HASHES.items():
        path = clone / CHAT / file
        code = path.read_bytes()
        for part in go_parts():
            if part.file == file:
                try:
                    go_lines(code.decode(), part.declaration)
                except ValueError as error:
                    raise ValueError(f"{path} {error}; the page is about {COMMIT[:12]}") from error
        if hashlib.sha256(code).hexdigest() != wanted:
            yield f"{path} differs from the one at {COMMIT[:12]}; its own text is shown"


def python_lines(code: str, names: Sequence[str]) -> set[int]:
    """Return the line numbers of the parts of a Python file that have these names.

    The file's first line has number 1. A part is a function, a class without its methods, a method
    (`Hub.run`), a variable, or TOP. It includes the comments directly above it, but no blank lines.
    Raises ValueError for an unknown name.
    """
    lines = code.splitlines()
    parts: dict[str, set[int]] = {TOP: set()}
    at_top = True
    for node in ast.parse(code).body:
        where = _lines(lines, node)
        name = _name(node)
        at_top = at_top and (not name or name == "__all__")
        if at_top:
            parts[TOP] |= where
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, FUNCTIONS):
                    method = _lines(lines, each)
                    parts[f"{name}.{each.name}"] = method
                    where -= method
            parts[name] = where
        else:
            parts[name] = where
    if unknown := [name for name in names if name not in parts]:
        raise ValueError(f"there is no {', '.join(unknown)}")
    return {line for name in names for line in parts[name] if lines[line - 1].strip()}


def _name(node: ast.stmt) -> str:
    """Return the first name that a statement defines, or "" if it defines none."""
    if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
        return node.name
    if isinstance(node, ast.Assign):
        return next(each.id for each in ast.walk(node.targets[0]) if isinstance(each, ast.Name))
    return ""


def _lines(lines: Sequence[str], node: ast.AST) -> set[int]:
    """Return the line numbers of a node, its decorators, and the comments directly above it."""
    place = node.pattern if isinstance(node, ast.match_case) else node
    decorators = getattr(node, "decorator_list", [])
    first = min(each.lineno for each in [place, *decorators])
    end = node.body[-1] if isinstance(node, ast.match_case) else node
    while first > 1 and lines[first - 2].strip().startswith("#"):
        first -= 1
    return set(range(first, end.end_lineno + 1))  # type: ignore[attr-defined]


def not_in_go(code: str, begin: str, within: set[int]) -> set[int]:
    """Return the line numbers of the statement, case, handler or argument beginning with `begin`.

    within: the lines to search. Raises ValueError unless exactly one of them begins with `begin`.
    """
    lines = code.splitlines()
    kinds = (ast.stmt, ast.expr, ast.arg, ast.ExceptHandler, ast.match_case)
    found: dict[int, set[int]] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, kinds):
            place = node.pattern if isinstance(node, ast.match_case) else node
            line = lines[place.lineno - 1]
            at_begin = len(line) - len(line.lstrip()) == place.col_offset
            at_begin |= isinstance(node, ast.match_case)  # the pattern begins after `case`
            if at_begin and line.strip().startswith(begin) and place.lineno in within:
                found.setdefault(place.lineno, set()).update(_lines(lines, node))
    if len(found) != 1:
        raise ValueError(f"{len(found)} statements begin with {begin!r}")
    return found.popitem()[1]


def awaits(code: str) -> set[int]:
    """Return the numbers of the lines on which a coroutine awaits something, counted from 1."""
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    return {node.lineno for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)}


class GoPartDirective(SphinxDirective):
    """Shows the directive's content, or the text of a part of a Go file from a clone."""

    has_content = True
    required_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Parse the content, or read the part from the clone."""
        file, declaration = self.arguments
        if not self.config.gochat_go:
            node = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, node)
            return [node]
        code = Path(self.config.gochat_go, CHAT, file).read_text()
        first, last = go_lines(code, declaration)
        text = "\n".join(code.splitlines()[first - 1 : last])
        block = nodes.literal_block(text, text, language="go")
        return [container_wrapper(self, block, "Go")]


class PythonPartDirective(SphinxDirective):
    """Shows parts of a Python file.

    names: the parts, separated by semicolons. caption: a caption to show instead of "Python".
    not-in-go: the beginnings of statements to highlight, separated by semicolons. awaits: highlight
    the lines that await something.
    """

    required_arguments = 1
    option_spec: ClassVar = {
        "awaits": directives.flag,
        "caption": directives.unchanged,
        "names": directives.unchanged_required,
        "not-in-go": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Read the parts from the file."""
        path = ROOT / self.arguments[0]
        self.env.note_dependency(str(path))
        code = path.read_text()
        chosen = python_lines(code, _list(self.options["names"]))
        ours = awaits(code) & chosen if "awaits" in self.options else set()
        for begin in _list(self.options.get("not-in-go", "")):
            ours |= not_in_go(code, begin, chosen)
        lines = code.splitlines()
        shown: list[str] = []
        shaded: list[int] = []
        for number in sorted(chosen):
            if shown and number - 1 not in chosen:
                shown.append("")
                if number in ours and number - 2 in ours:
                    shaded.append(len(shown))
            shown.append(lines[number - 1])
            if number in ours:
                shaded.append(len(shown))
        text = textwrap.dedent("\n".join(shown))
        node = nodes.literal_block(text, text, language="python")
        node["highlight_args"] = {"hl_lines": shaded}
        return [container_wrapper(self, node, self.options.get("caption", "Python"))]


def _list(option: str) -> list[str]:
    return [each.strip() for each in option.split(";") if each.strip()]


def setup(app: Sphinx) -> None:
    """Add the directives and the configuration value `gochat_go`."""
    app.add_config_value("gochat_go", "", "", str)
    app.add_directive("go-part", GoPartDirective)
    app.add_directive("python-part", PythonPartDirective)
    # Sphinx does not know that this page depends on the clone. So make Sphinx read it every time.
    app.connect(
        "env-get-outdated", lambda _, env, *__: sorted({"why/three-files"} & env.found_docs)
    )

"""The configuration of Sphinx for the site. `python -m docs` runs Sphinx.

It extends Sphinx, MyST and Furo in three ways:

- A link such as `../../src/gochat/hub.py` leads to a page that shows the file. So the same link
  works on the site and in a repository browser. A link to a picture leads to the picture.
- In dark mode, the site shows `x-dark.png`, if it exists, instead of `x.png`.
- Docstrings are Markdown.
"""

from __future__ import annotations

import inspect
import logging
import posixpath
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils import new_document
from myst_parser.mdit_to_docutils import base
from myst_parser.mdit_to_docutils.sphinx_ import SphinxRenderer
from myst_parser.parsers.mdit import create_md_parser
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

import gochat

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "gochat"
version = release = gochat.__version__
html_title = "gochat"
copyright = "the gochat authors"  # noqa: A001 - Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinx_design"]
extensions += ["docs.twins"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
# The first time it runs on a machine, matplotlib logs that it is looking for fonts.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
nitpicky = True
# Names from other projects are not links, because the site must work without a network.
nitpick_ignore_regex = [(r"py:.*", r"(?!gochat\.).*")]
# Names of a module's private types are also not links.
nitpick_ignore_regex += [(r"py:.*", r"gochat\..*\.(T|Connection|Counts|Figure|Sums)")]


# The pages for the files that links lead to.


#: Suffixes of picture files.
PICTURES = {".svg", ".png"}


def page_of(path: str) -> str:
    """Return the name of the site's page for a file or folder of the repository."""
    return f"files/{path}"


def file_of(path: str) -> str:
    """Return the path, on the site, of the file that shows a file or folder of the repository."""
    return page_of(path) + ("" if Path(path).suffix in PICTURES else ".html")


class FileLinks(SphinxTransform):
    """Turns each link to a file of the repository into a link to the page that shows the file."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Change the links of one document."""
        here = posixpath.dirname(self.env.docname)
        for node in list(self.document.findall(nodes.Element)):
            is_link = isinstance(node, (download_reference, pending_xref))
            if not (is_link and node.get("reftype") == "myst"):
                continue
            target, _, anchor = node["reftarget"].partition("#")
            if node.get("refdomain") == "doc":  # relative to docs/, without the suffix .md
                path = DOCS / f"{target}.md"
                if target in self.env.found_docs:
                    continue
            else:
                path = DOCS / here / target
            path = path.resolve()
            if not target or not path.exists() or not path.is_relative_to(ROOT):
                continue
            name = path.relative_to(ROOT).as_posix()
            # The name is stored with the document, so that Sphinx drops both at the same time.
            self.env.metadata[self.env.docname].setdefault("files", set()).add(name)
            uri = posixpath.relpath(file_of(name), here or ".")
            uri += f"#{anchor}" if anchor else ""
            node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


class DarkPictures(SphinxTransform):
    """Adds the dark versions of pictures. Furo shows the version that fits the current mode."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Change the pictures of one document."""
        here = DOCS / posixpath.dirname(self.env.docname)
        for node in list(self.document.findall(nodes.image)):
            name, dot, suffix = node["uri"].rpartition(".")
            uri = f"{name}-dark{dot}{suffix}"
            if (here / uri).exists():
                dark = node.copy()
                dark["uri"] = uri
                node["classes"].append("only-light")
                dark["classes"].append("only-dark")
                node.parent.insert(node.parent.index(node) + 1, dark)


def file_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each linked file, each source file, and each folder that contains them."""
    files = {path.relative_to(ROOT) for path in (ROOT / "src" / "gochat").rglob("*.py")}
    for meta in app.env.metadata.values():
        files |= {Path(name) for name in meta.get("files", ())}
    files |= {parent for path in files for parent in path.parents if parent.name}
    for path in sorted(files):
        page = Path(app.outdir, f"{page_of(str(path))}.html")
        if (ROOT / path).is_dir():
            inside = sorted(found.name for found in files if found.parent == path)
            items = [
                f'<li><a href="{path.name}/{posixpath.basename(file_of(name))}">{name}</a></li>'
                for name in inside
            ]
            body = f"<ul>{''.join(items)}</ul>"
        elif path.suffix in PICTURES:
            copy = Path(app.outdir, file_of(str(path)))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, copy)
            continue
        elif page.exists() and page.stat().st_mtime > (ROOT / path).stat().st_mtime:
            continue  # unchanged; Sphinx also skips such pages
        else:
            try:
                lexer = get_lexer_for_filename(path.name)
            except ClassNotFound:
                lexer = TextLexer()
            body = highlight((ROOT / path).read_text(), lexer, HtmlFormatter(lineanchors="L"))
            # The Tab key would stop at the empty link that Pygments makes for each line.
            body = re.sub(r'<a id="(L-\d+)" [^>]*></a>', r'<span id="\1"></span>', body)
        yield page_of(str(path)), {"title": path, "body": f"<h1>{path}</h1>{body}"}, "page.html"


def share_navigation(app: Sphinx, page: str, _: str, context: dict[str, Any], *__: Any) -> None:
    """Make the navigation of file pages only once for each depth in the tree of files.

    Pages at the same depth have the same navigation, and making it takes longer than making the
    rest of a page.
    """
    if page.startswith("files/"):
        shared: dict[int, Any] = vars(app).setdefault("gochat_navigation", {})
        make: Callable[..., str] = context["toctree"]

        def toctree(**options: Any) -> str:
            key = page.count("/")
            if key not in shared:
                shared[key] = make(**options)
            return str(shared[key])

        context["toctree"] = toctree


def linkcode_resolve(_: str, info: dict[str, str]) -> str | None:
    """Return the address of a name's source: the page of its file, and the line."""
    found: Any = sys.modules[info["module"]]
    for name in info["fullname"].split("."):
        found = getattr(found, name, None)
    found = getattr(found, "fget", found)  # a property's function
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(found)) or "").resolve()
        line = inspect.getsourcelines(found)[1]
    except TypeError:  # a constant
        return None
    if not path.is_relative_to(ROOT / "src"):
        return None
    name = path.relative_to(ROOT).as_posix()
    return f"../{page_of(name)}.html#L-{line}"  # all reference pages are in one folder


# Docstrings.

# The renderer makes new settings for each docstring, although they are always the same. That takes
# longer than parsing most docstrings.
base.get_default_settings = cache(base.get_default_settings)  # type: ignore[assignment,attr-defined]


class Markdown(SphinxDirective):
    """A directive whose content is Markdown."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Parse the content."""
        # All docstrings on a page share one parser, because making a parser takes longer than
        # parsing most docstrings.
        if "gochat_parser" not in self.env.temp_data:
            config = self.env.myst_config  # type: ignore[attr-defined]
            parser = create_md_parser(config, SphinxRenderer)
            self.env.temp_data["gochat_parser"] = parser
        parser = self.env.temp_data["gochat_parser"]
        source = self.get_source_info()[0] or ""
        document = new_document(source, self.state.document.settings)
        parser.options["document"] = document
        parser.render("\n".join(self.content))
        return list(document.children)


def markdown_docstring(*args: Any) -> None:
    """Put a docstring into a Markdown directive. The last argument is the docstring's lines."""
    lines = args[-1]
    lines[:] = [".. markdown::", "", *(f"    {line}" for line in lines), ""]


def add_icon(*args: Any) -> None:
    """Give a page an empty icon, so that the browser does not ask the server for one."""
    context = args[3]
    context["metatags"] = f'{context.get("metatags", "")}<link rel="icon" href="data:,">'


def setup(app: Sphinx) -> None:
    """Add this site's extensions to Sphinx."""
    app.add_transform(FileLinks)
    app.add_transform(DarkPictures)
    app.connect("html-collect-pages", file_pages)
    app.connect("html-page-context", share_navigation, priority=400)  # before the theme uses it
    app.connect("html-page-context", add_icon)
    app.add_directive("markdown", Markdown)
    app.connect("autodoc-process-docstring", markdown_docstring)

"""Build, check and tag a release.

python -m tests.release 0.1.0 --repository https://example.org/gochat

The checkout must be clean, and its version and changelog must name the release. The command runs
all tests, builds the sdist and the wheel into dist/, checks both with twine, and makes the tag. It
publishes nothing, but prints the two commands that do.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["build", "main", "with_whole_links"]

ROOT: Final = Path(__file__).parent.parent


def with_whole_links(text: str, repository: str, tag: str) -> str:
    """Return Markdown with full URLs for the repository's links and pictures.

    Relative links would be broken on the package index.
    """
    text = re.sub(r"(!\[[^]]*\]\()(?!\w+:|#)", rf"\1{repository}/raw/{tag}/", text)
    text = re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)", rf"\1{repository}/blob/{tag}/", text)
    text = text.replace("\nReplace REPOSITORY with the URL of this repository:\n", "")
    return text.replace("git clone REPOSITORY", f"git clone {repository}")


def build(source: Path, dist: Path, repository: str, tag: str) -> None:
    """Build the sdist and the wheel from a copy of the source, and check them with twine.

    Changes the copy's README. Raises CalledProcessError if a step fails.
    """
    readme = source / "README.md"
    readme.write_text(with_whole_links(readme.read_text(), repository, tag))
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), cwd=source)
    files = [str(path) for path in dist.iterdir()]
    _run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=source)


def mistake(root: Path, version: str) -> str:
    """Return why the checkout cannot be released as this version, or "" if it can."""
    if _run("git", "status", "--porcelain", cwd=root):
        return "there are changes that are not committed"
    if f'"{version}"' not in (root / "src/gochat/version.py").read_text():
        return f"src/gochat/version.py does not say {version}"
    heading = rf"## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)"
    if not re.search(rf"\A# Changelog\n\n{heading}\n", (root / "CHANGELOG.md").read_text()):
        return f"CHANGELOG.md does not begin with ## {version} (the date, as in 2026-01-31)"
    if _run("git", "tag", "--list", f"v{version}", cwd=root):
        return f"there is a tag v{version} already"
    return ""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Release the commit that is checked out; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("version", metavar="VERSION", help="the version, as in 0.1.0")
    parser.add_argument("--repository", metavar="URL", required=True, help="where the source is")
    parser.add_argument("--tested", action="store_true", help="all tests have passed already")
    args = parser.parse_args(argv)
    if why := mistake(root, args.version):
        print(f"release: {why}", file=sys.stderr)
        return 1
    tag, repository = f"v{args.version}", args.repository.rstrip("/")
    try:
        if not args.tested:
            subprocess.run([root / "tests/run"], check=True)
        with tempfile.TemporaryDirectory() as folder:
            _run("git", "clone", "--quiet", "--no-hardlinks", str(root), folder, cwd=root)
            build(Path(folder), root / "dist", repository, tag)
        _run("git", "tag", "--annotate", tag, "--message", f"gochat {args.version}", cwd=root)
    except subprocess.CalledProcessError as error:
        print(f"{error.stdout or ''}release: {error}", file=sys.stderr)
        return 1
    print(f"to publish it:\n  git push origin {tag}\n  twine upload dist/gochat-{args.version}*")
    return 0


def _run(*command: str, cwd: Path) -> str:
    return subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    sys.exit(main())

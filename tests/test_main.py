"""`gochat serve` as users run it: flags, log, page and shutdown."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

import gochat
from gochat import Settings
from gochat.golang.http.address import listen
from gochat.golang.runtime.threads.turns import DEFAULT_GOMAXPROCS
from gochat.ops.command import main
from gochat.ops.config import Config
from gochat.ops.flags import parse_flags

from .support import (
    CLOSE,
    COMMAND,
    LOCAL,
    LONG_MESSAGE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Frame,
    Gochat,
    Peer,
    Response,
    Room,
    accepts,
    deaf,
    effort,
    finished,
    frame,
    free_port,
    is_one_line,
    join,
    parted,
    say_long,
    sent_page,
    wait_until,
)

DATE = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d "

#: For each flag: its name, a value, the parsed value, and the default.
FLAG_CASES: list[tuple[str, str, object, object]] = [
    ("addr", "localhost:9000", "localhost:9000", ":8080"),
    ("addr", ":0", ":0", ":8080"),
    ("write-wait", "2.5", 2.5, 10.0),
    ("pong-wait", "90", 90.0, 60.0),
    ("ping-period", "1e-3", 0.001, 54.0),
    ("read-header-timeout", "7", 7.0, 3.0),
    ("shutdown-timeout", "0.5", 0.5, 5.0),
    ("max-message-size", "70000", 70000, 512),
    ("send-buffer", "1", 1, 256),
    ("gomaxprocs", "3", 3, DEFAULT_GOMAXPROCS),
    ("max-clients", "1000", 1000, None),
    ("max-clients-per-address", "20", 20, None),
    ("rate", "0.5", 0.5, None),
    ("burst", "3", 3, 10),
    ("burst", "10", 10, 10),
    ("metrics-addr", "localhost:9100", "localhost:9100", None),
    ("view", ":9101", "127.0.0.1:9101", None),
    ("view", "0.0.0.0:9101", "0.0.0.0:9101", None),
    ("view", "localhost:9101", "localhost:9101", None),
    ("relay", "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0", None),
    ("relay", "redis://[::1]", "redis://[::1]", None),
    ("relay", "rediss://me:secret@redis.example/1", "rediss://me:secret@redis.example/1", None),
    ("relay-timeout", "2.5", 2.5, 30.0),
    ("relay-maxlen", "1000", 1000, 100_000),
    ("relay-maxbytes", "65536", 65536, 16 << 20),
    ("room", "a.B-c_9", "a.B-c_9", "main"),
    ("trace-events", "1000", 1000, 200_000),
    ("allow-origin", "https://example.org", ["https://example.org"], []),
    ("allow-origin", "http://[::1]:8080", ["http://[::1]:8080"], []),
    ("allow-origin", "*", ["*"], []),
    ("allow-origin", "null", ["null"], []),
    ("trust-proxy", "127.0.0.1", [ip_network("127.0.0.1/32")], []),
    ("trust-proxy", "10.0.0.0/8", [ip_network("10.0.0.0/8")], []),
    ("trust-proxy", "2001:db8::/32", [ip_network("2001:db8::/32")], []),
]


#: Flags that need another flag, and that flag with a value.
NEEDS = {
    "burst": "--rate=5",
    "relay-timeout": "--relay=redis://h",
    "relay-maxlen": "--relay=redis://h",
    "relay-maxbytes": "--relay=redis://h",
    "room": "--relay=redis://h",
    "trace-events": "--trace=x.json",
}


def run_command(*args: str, module: bool = False) -> subprocess.CompletedProcess[str]:
    return finished([*([sys.executable, "-m", "gochat"] if module else [COMMAND]), *args])


def cpus_and_policies(gochat: Gochat) -> list[tuple[set[int], int]]:
    """Return each thread's allowed CPUs and scheduling policy."""
    threads = [int(task.name) for task in Path(f"/proc/{gochat.process.pid}/task").iterdir()]
    assert len(threads) >= 4
    return [(os.sched_getaffinity(thread), os.sched_getscheduler(thread)) for thread in threads]


def test_settle() -> None:
    """All threads of the server share one CPU and use batch scheduling."""
    with Gochat() as gochat, join(gochat.port):
        settled = cpus_and_policies(gochat)
        (cpu,) = settled[0][0]
        assert cpu in os.sched_getaffinity(0)
        assert settled == [({cpu}, os.SCHED_BATCH)] * len(settled)


@pytest.mark.measured
def test_no_pin() -> None:
    """With --no-pin, the threads may run on every CPU that the command may use."""
    with Gochat("--no-pin") as gochat, join(gochat.port):
        settled = cpus_and_policies(gochat)
        assert settled == [(os.sched_getaffinity(0), os.SCHED_BATCH)] * len(settled)


# Flags.


@pytest.mark.measured
@pytest.mark.parametrize("module", [False, True])
def test_version(module: bool) -> None:
    result = run_command("--version", module=module)
    assert (result.returncode, result.stdout) == (0, f"gochat {gochat.__version__}\n")
    assert result.stderr == ""


def test_imported_modules_are_no_garbage() -> None:
    """The garbage collector ignores the modules imported by the command."""
    program = (
        "import gc, sys\n"
        "from gochat_command import main\n"
        "sys.argv = ['gochat', '--version']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(gc.isenabled(), gc.get_freeze_count() > 5 * len(gc.get_objects()))"
    )
    result = finished([sys.executable, "-c", program])
    assert result.stdout.splitlines() == [f"gochat {gochat.__version__}", "True True"]
    assert (result.returncode, result.stderr) == (0, "")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists every flag with its default."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"--{flag}" in text for flag, *_ in FLAG_CASES)
    for default in (":8080", "10", "60", "512", "256", "0.9 of the pong wait", "3"):
        assert re.search(rf"\(default:? {re.escape(default)}", text)
    assert "None" not in text
    assert "[]" not in text
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "serve" in capsys.readouterr().out


@pytest.mark.parametrize(("flag", "value", "expected", "default"), FLAG_CASES)
def test_flags(flag: str, value: str, expected: object, default: object) -> None:
    """A flag can start with one dash or two. Its value follows a space or an equals sign."""
    name = flag.replace("-", "_")
    assert getattr(parse_flags(["serve"]), name) == default
    for dashes in ("-", "--"):
        for args in ([f"{dashes}{flag}", value], [f"{dashes}{flag}={value}"]):
            needed = [NEEDS[flag]] if flag in NEEDS else []
            parsed = parse_flags(["serve", *args, *needed])
            assert getattr(parsed, name) == expected
            given = (flag, "ping-period", *(name[2:].partition("=")[0] for name in needed))
            others = {other: value for other, _, _, value in FLAG_CASES if other not in given}
            if flag != "pong-wait":
                others["ping-period"] = 54.0 if flag != "ping-period" else expected
            for other, standard in others.items():
                assert getattr(parsed, other.replace("-", "_")) == standard


def test_defaults_are_those_of_go() -> None:
    flags = parse_flags(["serve"])
    settings = Settings()
    for name, value in {
        "write_wait": 10,
        "pong_wait": 60,
        "ping_period": 60 * 9 / 10,
        "max_message_size": 512,
        "send_buffer": 256,
    }.items():
        assert getattr(flags, name) == value
        assert getattr(settings, name) == value
    assert flags.addr == ":8080"


def test_ping_period_follows_pong_wait() -> None:
    assert parse_flags(["serve", "--pong-wait", "10"]).ping_period == 9
    assert parse_flags(["serve", "--pong-wait", "10", "-ping-period", "3"]).ping_period == 3


def test_a_config_without_a_command_line() -> None:
    """A Config has the defaults of the flags, and Go's constants."""
    assert Config().settings == Settings()
    assert Config(pong_wait=10.0).settings.ping_period == 9
    config = parse_flags(["serve"]).config
    for name in ("addr", "shutdown_timeout", "max_clients", "relay_maxbytes", "room", "pin"):
        assert getattr(config, name) == getattr(Config(), name)


@pytest.mark.parametrize("flag", NEEDS)
def test_a_flag_without_the_flag_it_needs(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag is refused if the flag it depends on is missing."""
    needed = NEEDS[flag].partition("=")[0]
    ((value, default), *_) = [(each[1], each[3]) for each in FLAG_CASES if each[0] == flag]
    for text in (value, str(default)):
        with pytest.raises(SystemExit) as caught:
            parse_flags(["serve", f"--{flag}={text}"])
        assert caught.value.code == 2
        assert capsys.readouterr() == ("", f"gochat serve: --{flag} needs {needed}\n")


def test_a_relay_of_any_source_has_its_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The relay's flags are accepted wherever its URL comes from."""
    (tmp_path / "relay").write_text("redis://h")
    assert parse_flags(["serve", f"--relay-file={tmp_path / 'relay'}", "--room=a"]).room == "a"
    monkeypatch.setenv("GOCHAT_RELAY", "redis://h")
    assert parse_flags(["serve", "--room=a"]).room == "a"


def test_allow_origin_may_be_repeated() -> None:
    """--allow-origin can be repeated. A second parse starts with an empty list."""
    flags = ["serve", "--allow-origin", "https://a.example", "-allow-origin", "http://b.example:81"]
    assert parse_flags(flags).allow_origin == ["https://a.example", "http://b.example:81"]
    assert parse_flags(["serve"]).allow_origin == []


def test_trust_proxy_may_be_repeated() -> None:
    """--trust-proxy can be repeated. A second parse starts with an empty list."""
    flags = ["serve", "--trust-proxy", "127.0.0.1", "-trust-proxy=fd00::/8"]
    assert parse_flags(flags).trust_proxy == [ip_network("127.0.0.1"), ip_network("fd00::/8")]
    assert parse_flags(["serve"]).trust_proxy == []


def test_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """More than one process requires a relay and Linux."""
    assert parse_flags(["serve"]).processes == 1
    assert parse_flags(["serve", "--processes=1"]).processes == 1
    assert parse_flags(["serve", "-processes", "1024", "--relay=redis://h"]).processes == 1024
    with pytest.raises(SystemExit):
        parse_flags(["serve", "--processes=2"])
    assert is_one_line(capsys.readouterr().err, "--processes needs --relay")
    monkeypatch.setenv("GOCHAT_RELAY", "redis://h")
    assert parse_flags(["serve", "--processes=2"]).processes == 2
    monkeypatch.setattr("sys.platform", "darwin")
    assert parse_flags(["serve", "--processes=1"]).processes == 1
    with pytest.raises(SystemExit):
        parse_flags(["serve", "--processes=2"])
    assert is_one_line(capsys.readouterr().err, "--processes needs Linux")


def test_the_stream_has_room_for_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """--relay-maxbytes must suffice for messages of the maximum size."""
    flags = ["serve", "--relay=redis://h", "--relay-maxbytes=8191"]
    with pytest.raises(SystemExit):
        parse_flags(flags)
    assert is_one_line(capsys.readouterr().err, "--relay-maxbytes 8191 is too small")
    assert parse_flags([*flags, "--max-message-size=511"]).relay_maxbytes == 8191


def test_where_the_relay_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The relay's URL comes from --relay or --relay-file (not both), else from GOCHAT_RELAY."""
    file = tmp_path / "relay"
    file.write_text("redis://file\n")
    from_file = f"--relay-file={file}"
    assert parse_flags(["serve", from_file]).relay == "redis://file"
    monkeypatch.setenv("GOCHAT_RELAY", "redis://environment")
    assert parse_flags(["serve"]).relay == "redis://environment"
    assert parse_flags(["serve", "--relay=redis://flag"]).relay == "redis://flag"
    assert parse_flags(["serve", from_file]).relay == "redis://file"
    monkeypatch.setenv("GOCHAT_RELAY", "")
    assert parse_flags(["serve"]).relay is None
    for flags, what in (
        (["--relay=redis://flag", from_file], "--relay and --relay-file"),
        (["--relay-file="], "--relay-file '': "),
        (["--relay-file=/dev/zero"], "--relay-file '/dev/zero': not a URL"),
        (
            [f"--relay-file={tmp_path / 'none'}"],
            f"--relay-file '{tmp_path / 'none'}': No such file",
        ),
    ):
        with pytest.raises(SystemExit):
            parse_flags(["serve", *flags])
        assert is_one_line(capsys.readouterr().err, what)


def serve_after(program: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `gochat serve`; every Python process first runs a program.

    program: its code, written to sitecustomize.py in `folder`.
    """
    text = "import os, signal, sys\n" + textwrap.dedent(program)
    (folder / "sitecustomize.py").write_text(text)
    return subprocess.run(
        [COMMAND, "serve", "--addr", LOCAL, *flags],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "at", ["gochat", "gochat.client", "gochat.ops.flags", "gochat.trace.probe"]
)
def test_ctrl_c_at_the_begin(tmp_path: Path, at: str) -> None:
    """Ctrl-C during startup ends the command with SIGINT and no traceback.

    at: the module whose import Ctrl-C interrupts.
    """
    program = f"""
        def interrupt(event, args):
            if event == "import" and args[0] == {at!r}:
                os.kill(os.getpid(), signal.SIGINT)
        sys.addaudithook(interrupt)
    """
    done = serve_after(program, tmp_path, "--trace", str(tmp_path / "trace.json"))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_while_python_starts_again(tmp_path: Path) -> None:
    """Ctrl-C while the command restarts itself on greenlets prints no traceback."""
    program = """
        if "-c" in sys.orig_argv:
            os.kill(os.getpid(), signal.SIGINT)
    """
    done = serve_after(program, tmp_path, "--runtime", "greenlets")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("args", "environment", "in_file"),
    [
        (["serve", "--relay=http://:tulip@h"], "", b""),
        (["serve", "--relay", "redis://:tulip@h:x"], "", b""),
        (["serve", "--relay", "redis://:tulip @h:x/\n"], "", b""),
        (["serve", "redis://:tulip@h/0"], "", b""),
        (["serve", "redis://HOST:tulip@h/0"], "", b""),
        (["serve", "redis://HOST/0?password=tulip"], "", b""),
        (["serve", "--rely=REDISS://me:tulip@h/0"], "", b""),
        (["serve", "--relay=redis://h", "redis://h?password=a b,tulip"], "", b""),
        (["--relay", "redis://:tulip@h/0", "serve"], "", b""),
        (["redis://:tulip@h/0"], "", b""),
        (["serve"], "http://:tulip@h/0", b""),
        (["serve", "--nonsense"], "redis://:tulip@h/0", b""),
        (["serve", "--relay-file=redis://:tulip@h"], "", b""),
        (["serve", "--relay-file=FILE"], "", b"redis://:tulip@h:x"),
        (["serve", "--relay-file=FILE"], "", b"redis://:tulip\xff@h"),
        (["serve", "--relay-file=FILE"], "", b"redis://:tulip@h\nredis://:tulip@h"),
    ],
)
def test_no_error_repeats_a_password(
    *,
    args: list[str],
    environment: str,
    in_file: bytes,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "relay").write_bytes(in_file)
    monkeypatch.setenv("GOCHAT_RELAY", environment)
    with pytest.raises(SystemExit) as caught:
        parse_flags([arg.replace("FILE", str(tmp_path / "relay")) for arg in args])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(("gochat", "usage: gochat"))
    assert "tulip" not in err


TIMES = [
    "write-wait",
    "pong-wait",
    "ping-period",
    "read-header-timeout",
    "shutdown-timeout",
    "relay-timeout",
]
COUNTS = [
    "max-message-size",
    "send-buffer",
    "gomaxprocs",
    "burst",
    "max-clients",
    "max-clients-per-address",
    "relay-maxlen",
    "relay-maxbytes",
    "processes",
]

#: Invalid values for each flag.
WRONG_VALUES = {
    **{f"--{flag}": ["0", "nan"] for flag in TIMES},
    **{f"--{flag}": ["0", "1.5"] for flag in COUNTS},
    "--rate": [
        *("0", "-1", "nan", "inf", "x", "", "1e-7", "1e7", "1_0", " 5", "\u0665", "1.2.3", "."),
    ],
    "-pong-wait": [
        *("-0.0", "inf", "-inf", "1e400", "1e10", "", "soon", "1s", "0x10", "5\n6 ", " 5", "5_0"),
        "\u0665",
    ],
    "-send-buffer": [
        *("", "many", "+1", "1e3", "0x10", "1_000", "\u0661", " 1", "1" * 10, "1" * 5000),
    ],
    "--processes": ["1025"],
    "--relay": [
        *(
            "",
            "localhost:6379",
            "http://localhost",
            "unix:///run/redis.sock",
            "redis://",
            "redis:h",
        ),
        *("redis://:6379/0", "redis://h:x", "redis://h:0", "redis://h:65536", "redis://[::1"),
        *("redis://local\nhost", "redis://h/0\n", " redis://h", "redis://h/chat", "redis://h/0/1"),
    ],
    **{
        flag: [
            *("", "nonsense", "127.0.0.1", "::1", "::1:80", "[::1", ":http", ":-1", ":65536"),
            *("http://localhost:80", "localhost:80/", "a b:80", "me@h:80", "a..b:80", "-\n:80"),
            *(": 1", "\udcff:0", "x" * 64 + ":0", "x." * 127 + ":0"),
        ]
        for flag in ("-addr", "--view", "-metrics-addr")
    },
    "--room": ["", "a b", "a/b", "x" * 65, "\xe9", "a\n"],
    "--allow-origin": [
        "",
        "example.org",
        "https://",
        "://example.org",
        "https://example.org/",
        "https://example.org/chat",
        "https://example.org?",
        "https://me@example.org",
        "https://exa mple.org",
        "https://example.org\n",
        "https://*/",
    ],
    "--trust-proxy": [
        "",
        "*",
        "localhost",
        "127.0.0.1:80",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "[::1]",
        "127.0.0.1,127.0.0.2",
        "2130706433",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.0/104",
        "127.0.0.1\n",
    ],
}


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["serve", "--nonsense"], "there is no flag --nonsense: gochat serve --help lists them"),
        (["serve", "--add", LOCAL], "there is no flag --add: did you mean --addr?"),
        (["serve", "--h"], "there is no flag --h: did you mean -h?"),
        (["serve", "-adr=:80"], "there is no flag -adr: did you mean --addr?"),
        (["serve", "--max-clinets", "5"], "did you mean --max-clients?"),
        (["serve", "-"], "serve: unrecognized arguments: -"),
        (["serve", "extra"], "gochat serve: unrecognized arguments: extra"),
        (["serve", "--", "--nonsense"], "gochat serve: unrecognized arguments: -- --nonsense"),
        (["serve", "--write-wait=1e99"], "--write-wait: '1e99' is over the longest time"),
        (
            ["serve", "--relay=redis://h/abc"],
            "--relay: not a URL as in redis://HOST:PORT/0 or rediss://HOST/0\n",
        ),
        (["serve", "--=5"], "there is no flag --: gochat serve --help"),
        (["talk", "--nmae", "Ann Lee", ":80"], "there is no flag --nmae: did you mean --name?"),
        (["bench", ":80", "-window", "4", "-5"], "unrecognized arguments: -5"),
        (["bench", "--duration=1"], "there is no flag --duration: gochat bench --help lists them"),
        (["trace", "--SVG", "x.svg"], "there is no flag --SVG: did you mean --svg?"),
        (["serve", "--non\nsense"], "sense"),
        (["serve", "more"], "more"),
        (["serve", "--addr"], "--addr"),
        (["serve", "--ping-period", "60"], "--ping-period: the ping period (60 s) must be under"),
        (
            ["serve", "--ping-period", "61"],
            "the ping period (61 s) must be under the pong wait (60",
        ),
        (["serve", "--pong-wait", "54", "--ping-period", "54"], "under the pong wait"),
        (
            ["serve", "--processes=3", "--relay=redis://h", "--metrics-addr=:65534"],
            "--metrics-addr: of 3 processes, the last one's address ':65536': the port is over",
        ),
        (
            ["serve", "--processes=2", "--relay=redis://h", "--view=h:65535"],
            "--view: of 2 processes",
        ),
        *((["serve", f"--{flag}", "-1"], f"--{flag}") for flag in TIMES + COUNTS),
        *(
            (["serve", f"{flag}={value}"], f"--{flag.lstrip('-')}")
            for flag, values in WRONG_VALUES.items()
            for value in values
        ),
    ],
)
def test_flags_that_make_no_sense(
    args: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Invalid flags are refused with a one-line error and exit status 2."""
    with pytest.raises(SystemExit) as caught:
        parse_flags(args)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert is_one_line(err, what), err


@pytest.mark.parametrize("command", ["serve", "bench"])
def test_help_begins_with_what_most_people_need(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help lists each flag once, in groups. The first has the five that most people need."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    groups = re.findall(r"^(\w[\w ]+):\n((?:  .*\n)+)", text, re.MULTILINE)
    flags = {title: re.findall(r"^  (--[\w-]+)", lines, re.MULTILINE) for title, lines in groups}
    assert len(flags["what most people need"]) == 5
    assert list(flags).index("what most people need") <= 2  # after URL and --help
    shown = [flag for group in flags.values() for flag in group]
    assert len(shown) == len(set(shown)) > 10
    assert not re.search(r" -[a-z]{2}", text)


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        ([], "gochat serve"),
        (["serv"], "did you mean gochat serve?"),
        (["sevre", "--addr", LOCAL], "did you mean gochat serve?"),
        (["benhc"], "did you mean gochat bench?"),
        (["tolk"], "did you mean gochat talk?"),
        (["--verison"], "there is no flag --verison: did you mean gochat --version?"),
        (["x\ny"], "there are serve, bench, exercise, talk and trace"),
        (["-addr", ":8080"], "gochat serve -addr :8080"),
        (["--addr=:8080", "--no-pin"], "gochat serve --addr=:8080 --no-pin"),
    ],
)
def test_a_command_line_without_a_command(
    args: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the command is missing or unknown, gochat prints a usage line and a suggestion."""
    with pytest.raises(SystemExit) as caught:
        main(args)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    usage, line = err.splitlines(keepends=True)
    assert usage.startswith("usage: gochat ")
    assert "{serve,bench,exercise,talk,trace}" in usage
    assert is_one_line(line, meant), line


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["serve", "--nonsense"], "--nonsense"),
        (
            ["serve", "--addr", "nonsense"],
            "gochat serve: --addr: address 'nonsense' is not host:port",
        ),
        (["serve", "--addr", "\udcff:0"], "udcff:0"),  # not valid UTF-8
        (
            ["serve", "--relay=redis://h?socket_timeout=x", "--addr", LOCAL],
            "--relay: Invalid value",
        ),
        pytest.param(
            ["serve", "--relay=redis://h?nope=x", "--addr", LOCAL],
            "--relay: the URL of the relay has",
            marks=pytest.mark.measured,
        ),
        (
            ["serve", "--relay=redis://h?nope=x", "--addr", LOCAL, "--processes=2"],
            "gochat serve: --relay: the URL of the relay has",
        ),
    ],
)
def test_errors_of_the_command(args: list[str], what: str) -> None:
    """An invalid value is refused with status 2 and a one-line error that names the flag."""
    result = run_command(*args)
    assert (result.returncode, result.stdout) == (2, "")
    assert is_one_line(result.stderr, what), result.stderr


@pytest.mark.parametrize("flag", ["addr", "view", "metrics-addr"])
@pytest.mark.parametrize("addr", ["no-such-host.invalid:0", "192.0.2.1:0", "999.0.0.1:0"])
def test_errors_of_an_address(addr: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If the command cannot listen on an address, it prints one line and exits with status 1."""
    flags = {"addr": LOCAL, flag: addr}
    assert main(["serve", *(f"--{name}={value}" for name, value in flags.items())]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert is_one_line(err, f"listen tcp {addr}: ")


#: Parses its arguments as flags, with many long values in place of VALUE.
VALUES = r"""
import sys
from gochat.ops.flags import parse_flags

def judge(value):
    try:
        parse_flags([arg.replace("VALUE", value) for arg in line.split()])
    except SystemExit as error:
        print(error.code)

units = "1 0 1. 1e . - a a. A: [ : :: @ / 1, * \x80 \u00e9 \n ws:// ws://@ http://a: redis://:"
for line in sys.argv[1:]:
    for unit in ["\x20", *units.encode().decode("unicode-escape").split(" ")]:
        for tail in ("", "x", "@", "\n", ":1", "/"):
            judge(unit * (100_000 // len(unit)) + tail)
"""


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("", ["VALUE"]),
        ("talk", ["VALUE", ":1 --name=VALUE", ":1 --wait=VALUE"]),
        ("bench", ["VALUE", *(f"ws://h --{flag}=VALUE" for flag in ("clients", "rate", "seed"))]),
        ("bench", ["ws://h --plot=VALUE.svg"]),
        ("exercise", ["VALUE"]),
        ("serve", ["VALUE", "--VALUE", "--relay=redis://h --room=VALUE"]),
        *(
            ("serve", [f"--{flag}=VALUE" for flag in flags.split()])
            for flags in (
                "addr metrics-addr view rate pong-wait send-buffer relay relay-file",
                "allow-origin trust-proxy",
            )
        ),
    ],
)
def test_very_long_values(command: str, lines: list[str]) -> None:
    """Very long values are refused quickly, with a short message."""
    # In quadratic time, this would take minutes.
    result = finished([sys.executable, "-c", VALUES, *(f"{command} {line}" for line in lines)])
    assert result.returncode == 0, result.stderr[-1000:]
    assert set(result.stdout.split()) <= {"2"}
    errors = [line for line in result.stderr.splitlines() if not line.startswith(("usage", " "))]
    assert len(errors) == len(result.stdout.split())
    assert max(map(len, errors), default=0) < 1000


def test_a_port_that_is_taken() -> None:
    with listen(LOCAL) as listener:
        addr = f"127.0.0.1:{listener.getsockname()[1]}"
        result = run_command("serve", "-addr", addr)
    assert result.returncode == 1
    assert result.stderr == f"gochat: listen tcp {addr}: Address already in use\n"
    assert result.stdout == ""


# The log.


@pytest.fixture(scope="module")
def chat() -> Iterator[Gochat]:
    """A server for tests that need no flags."""
    with Gochat() as chat:
        yield chat
        assert chat.stop() == 0
        assert not chat.logged("Traceback")


def test_where_it_listens() -> None:
    """At startup, a log line shows a date, the address and a working link."""
    for flags in (("-addr", "localhost:0"), ("-addr=127.0.0.1:0",)):
        with Gochat(*flags) as chat:
            (line,) = chat.lines[chat.runtime == "greenlets" :]
            assert re.fullmatch(
                DATE + r"listening on ((?:127\.0\.0\.1|\[::1\]):\d+), open http://\1/", line
            )
            link = line.split()[-1]
            with urllib.request.urlopen(link, timeout=PATIENCE) as page:
                assert page.status == 200
                assert b"<html" in page.read()
            assert chat.stop() == 0
            logged = time.strptime(line[:19], "%Y/%m/%d %H:%M:%S")
            assert abs(time.mktime(logged) - time.time()) < 2 * PATIENCE


@pytest.mark.parametrize("path", ["/", "/?name=x&y=%20", "/favicon.ico", "/a%0Ab"])
def test_one_line_for_each_page(chat: Gochat, path: str) -> None:
    before = len(chat.lines)
    for method in ("GET", "POST"):
        with Peer(chat.port) as peer:
            peer.request(path, method=method)
    wait_until(lambda: len(chat.lines) >= before + 2)
    assert re.fullmatch(DATE + re.escape(path), chat.lines[-1])
    assert re.fullmatch(DATE + re.escape(path), chat.lines[-2])
    assert len(chat.lines) == before + 2


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ("/\xc3\xa9?\xe2\x82\xac=%41", "/%C3%A9?%E2%82%AC=%41"),  # UTF-8
        ("/\xe9", "/%E9"),
        ("/" + "x" * 50_000, "/" + "x" * 999),
        ("/" + "\xff" * 50_000, "/" + "%FF" * 999),
    ],
    # Short ids, because pytest puts a test's name into an environment variable, limited to 128 KB.
    ids=["UTF-8", "a byte", "long", "long when escaped"],
)
def test_a_url_in_the_log(chat: Gochat, sent: str, line: str) -> None:
    """In the log, non-ASCII bytes of URLs are percent-encoded, and long URLs are cut."""
    with Peer(chat.port) as peer:
        assert peer.request(sent).status == 404
    wait_until(lambda: chat.lines[-1].endswith(f" {line}"))


def test_a_chat_is_not_logged(chat: Gochat) -> None:
    before = len(chat.lines)
    with join(chat.port) as peer:
        peer.send("not for the log")
        assert peer.messages(1) == ["not for the log"]
        peer.send(b"\x03\xe9", CLOSE)
        peer.read_to_end()
    with Peer(chat.port) as peer:
        peer.request("/last")
    wait_until(lambda: chat.lines[-1].endswith(" /last"))
    assert len(chat.lines) == before + 1


@pytest.mark.parametrize(
    "sent",
    [
        "/\x9b31m\x84",
        "/%0A2020/01/01%2000:00:00%20listening",
        "/%0d%0a%1b[2J",
        "/\xe2\x80\xae\xe2\x80\xa8",
        '/"quoted\\',
    ],
)
def test_a_url_cannot_forge_a_line(chat: Gochat, sent: str) -> None:
    """Any URL is logged on one line of printable ASCII."""
    before = len(chat.lines)
    with Peer(chat.port) as peer:
        assert peer.request(sent).status == 404
    wait_until(lambda: len(chat.lines) > before)
    with Peer(chat.port) as peer:
        peer.request("/end")
    wait_until(lambda: chat.lines[-1].endswith(" /end"))
    assert len(chat.lines) == before + 2
    line = chat.lines[before]
    assert re.fullmatch(DATE + r"/[!-~]+", line)


@pytest.mark.parametrize("header", ["Origin", "Sec-WebSocket-Key", "Upgrade"])
def test_a_handshake_cannot_forge_a_line(chat: Gochat, header: str) -> None:
    """Any refused handshake is logged on one line of printable ASCII."""
    before = len(chat.lines)
    with Peer(chat.port) as peer:
        assert peer.open(headers={header: "\x9b31m\xa0\x84" + "x" * 1000}).status >= 400
    wait_until(lambda: len(chat.lines) > before)
    with Peer(chat.port) as peer:
        peer.request("/end")
    wait_until(lambda: chat.lines[-1].endswith(" /end"))
    assert len(chat.lines) == before + 2
    assert re.fullmatch(DATE + r"[ -~]{1,300}", chat.lines[before])


# The page.


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with Room() as room:
        yield room


def get(
    room: Room, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None
) -> Response:
    with Peer(room.port) as peer:
        return peer.request(path, headers, method)


def test_the_page(room: Room) -> None:
    """/ returns home.html as one file, with its type and security headers."""
    status, headers, body = get(room)
    assert status == 200
    assert body == sent_page("home.html")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert get(room, "/?a=b").body == body


@pytest.mark.parametrize(
    "header",
    [
        {"If-Modified-Since": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
        {"If-None-Match": "a," * 400_000},
        {"If-None-Match": '"' * 900_000},
    ],
    ids=["date", "many tags", "quotes"],
)
def test_a_condition_that_makes_no_sense(room: Room, header: dict[str, str]) -> None:
    """Absurd conditional headers cost the server little time."""

    def ask() -> None:
        with Peer(room.port) as peer:
            assert peer.request("/", header).status == 200

    assert effort(ask) < 10


def test_the_policy_of_the_page(room: Room) -> None:
    """The security policy allows only the page's own script and style, by their hashes."""
    _, headers, body = get(room)
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in headers["content-security-policy"].split(";")
    )
    for directive, element in (("script-src", b"script"), ("style-src", b"style")):
        texts = re.findall(b"<%b\\b[^>]*>(.*?)</%b>" % (element, element), body, re.DOTALL)
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in texts
        ]
        assert hashes
        assert policy[directive].split() == hashes
    assert policy["default-src"] == "'none'"
    for directive in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[directive] == "'none'"
    assert {"ws:", "wss:"} <= set(policy["connect-src"].split())
    assert "unsafe" not in headers["content-security-policy"]
    assert set(re.findall(r"[\w-]+-src(?:-\w+)?", headers["content-security-policy"])) == {
        "default-src",
        "script-src",
        "style-src",
        "connect-src",
        "img-src",
    }


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get"])
def test_methods(room: Room, method: str) -> None:
    """The page allows only GET."""
    status, headers, body = get(room, "/", method)
    assert status == 405
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert body == (b"" if method == "HEAD" else b"Method not allowed\n")


@pytest.mark.parametrize(
    "path", ["/nope", "/home.html", "/static/home.html", "/ws/", "/../", "/%2e"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths(room: Room, path: str, method: str) -> None:
    """Any other path returns 404, whatever the method."""
    status, headers, body = get(room, path, method)
    assert (status, body) == (404, b"Not found\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_that_is_known_already(room: Room) -> None:
    """A browser that already has the page gets 304."""
    first = get(room)
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]+"', etag)
    assert first.headers["cache-control"] == "no-cache"
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        again = get(room, headers={"If-None-Match": known})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == etag
        assert "content-security-policy" in again.headers
    other = get(room, headers={"If-None-Match": '"x"'})
    assert (other.status, other.body) == (200, first.body)


@pytest.mark.parametrize("known", ['"x"', "*"], ids=["200", "304"])
def test_no_header_comes_twice(room: Room, known: str) -> None:
    peer = http.client.HTTPConnection("127.0.0.1", room.port, timeout=PATIENCE)
    peer.request("GET", "/", headers={"If-None-Match": known})
    names = [name.lower() for name, _ in peer.getresponse().getheaders()]
    peer.close()
    assert "date" in names
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", ["/", "/nope", "/ws"])
def test_the_server_does_not_say_its_version(room: Room, path: str) -> None:
    headers = get(room, path).headers
    assert headers["server"] == "gochat"
    text = str(headers).lower()
    assert not any(word in text for word in ("werkzeug", "python", "simple"))


# The effects of flags.


def opened(chat: Gochat, origin: str | None) -> int:
    with Peer(chat.port) as peer:
        return peer.open(headers={"Origin": origin}).status


def test_allow_origin() -> None:
    """Only pages from the server's own or an allowed origin can connect."""
    flags = ("--allow-origin", "https://a.example", "-allow-origin=http://b.example:81")
    with Gochat(*flags) as chat:
        for origin in ("https://a.example", "HTTPS://A.example", "http://b.example:81", chat.url):
            assert opened(chat, origin) == 101
        assert opened(chat, None) == 101
        for origin in (
            "http://a.example",
            "https://a.example:444",
            "https://a.example.org",
            "https://xa.example",
            "http://b.example",
            "null",
            "",
            "*",
        ):
            assert opened(chat, origin) == 403
    with Gochat("--allow-origin", "*") as chat:
        assert opened(chat, "https://anybody.example") == 101
        assert opened(chat, "null") == 101


def test_foreign_origins_by_default(chat: Gochat) -> None:
    assert opened(chat, "https://a.example") == 403
    assert opened(chat, chat.url) == 101


def test_trust_proxy() -> None:
    """Thread names and limits use the client address reported by a trusted proxy."""
    with Gochat("--trust-proxy", "127.0.0.1", "--max-clients-per-address=1") as chat:
        with Peer(chat.port) as proxy, Peer(chat.port) as second, Peer(chat.port) as other:
            headers = {"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}
            assert proxy.open(headers=headers).status == 101
            proxy.send("ho")
            assert proxy.messages(1) == ["ho"]  # so the client is registered and both pumps run
            assert second.open(headers=headers).status == 503
            assert other.open(headers={"X-Forwarded-For": "192.0.2.8"}).status == 101
            other.send("hi")
            assert proxy.messages(1) == ["hi"]
            chat.process.send_signal(signal.SIGUSR1)
            addr = f"192.0.2.7:{proxy.addr.partition(':')[2]}"
            names = (f" readPump {addr}:", f" writePump {addr}:")
            wait_until(lambda: all(map(chat.logged, names)))
        assert chat.stop() == 0
        assert chat.logged("refused a connection (503): 1 of 192.0.2.7 are being served")
    assert [line for line in chat.lines if "127.0.0.1" in line] == [
        line for line in chat.lines if "listening on" in line
    ]


@pytest.mark.parametrize("first", ["null", "", "http://evil.example", "SAME"])
@pytest.mark.parametrize("second", ["null", "http://evil.example", "SAME"])
def test_two_origins(chat: Gochat, first: str, second: str) -> None:
    with Peer(chat.port) as peer:
        one, two = (origin.replace("SAME", chat.url) for origin in (first, second))
        assert peer.open(headers={"Origin": f"{one}\r\nOrigin: {two}"}).status == 403


def test_no_other_header_is_the_host(chat: Gochat) -> None:
    """The origin is compared with Host only, not with headers set by proxies."""
    headers = {
        "Origin": "http://evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Original-Host": "evil.example",
        "Forwarded": "host=evil.example",
    }
    with Peer(chat.port) as peer:
        assert peer.open(headers=headers).status == 403


def frames_to_end(peer: Peer) -> tuple[list[Frame], Frame | None]:
    """Return all frames but pings, and separately the final close frame, if any."""
    frames = [got for got in peer.read_to_end() if got.opcode != PING]
    return (frames[:-1], frames[-1]) if frames and frames[-1].opcode == CLOSE else (frames, None)


def test_times_and_sizes_are_in_force() -> None:
    """The server obeys --max-message-size, --ping-period and --pong-wait."""
    with Gochat("--max-message-size=5", "--ping-period=0.1", "--pong-wait=2") as chat:
        with Peer(chat.port) as peer:
            assert peer.open().status == 101
            # Answering pings keeps a client connected beyond the pong wait.
            begin = time.monotonic()
            while time.monotonic() - begin < 2.5:
                got = peer.read_frame()
                assert got.opcode == PING
                peer.send(got.payload, PONG)
            peer.send("12345")
            assert peer.messages(1) == ["12345"]
            peer.send("123456")
            _, close = frames_to_end(peer)
            assert close is not None
            assert close.code == 1009
        with Peer(chat.port) as peer:
            begin = time.monotonic()
            assert peer.open().status == 101
            frames, _ = frames_to_end(peer)  # this client does not answer pings
            assert frames == []
            assert time.monotonic() - begin >= 2


def test_the_read_header_timeout_is_in_force() -> None:
    """A client that sends no request is disconnected after --read-header-timeout."""
    flag = "--read-header-timeout"
    with (
        Gochat(f"{flag}=600") as patient,
        Gochat(f"{flag}=0.3") as chat,
        Peer(patient.port) as first,
        Peer(chat.port) as second,
    ):
        # If the flag had no effect, the first client would be cut before the second.
        assert second.sock.recv(1) == b""
        first.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            first.sock.recv(1)


def test_very_long_times() -> None:
    flags = [f"--{flag}=9e9" for flag in TIMES if flag not in ("ping-period", "relay-timeout")]
    with Gochat(*flags) as chat:
        with Peer(chat.port) as peer:
            assert peer.open().status == 101
            peer.send("hello")
            assert peer.messages(1) == ["hello"]
            peer.send(b"\x03\xe8", CLOSE)
            peer.read_to_end()
        assert chat.stop() == 0
        assert not chat.logged("Error")


#: Flags for long messages. The write wait is long enough even for a slow machine.
BIG = ("--max-message-size", str(LONG_MESSAGE), "--write-wait=600")


def test_the_write_wait_is_in_force() -> None:
    """A client that does not read is disconnected after --write-wait."""
    with (
        Gochat(*BIG) as patient,
        Gochat(*BIG, "--write-wait=0.3") as chat,
        ExitStack() as stack,
    ):
        # If the flag had no effect, `patient` would disconnect its client before `chat` did.
        before = {}
        for each in (patient, chat):
            speaker = stack.enter_context(join(each.port))
            before[each] = each.descriptors()
            stack.enter_context(deaf(each.port))
            wait_until(lambda each=each: each.descriptors() == before[each] + 1)  # type: ignore[misc]
            say_long(speaker, 150)
        wait_until(lambda: chat.descriptors() == before[chat], "the end of the client")
        assert patient.descriptors() == before[patient] + 1
        speaker.send("alone")
        assert speaker.messages(1) == ["alone"]
        patient.kill()


def test_the_send_buffer_is_in_force() -> None:
    """A client with more than --send-buffer messages waiting is disconnected."""
    with (
        Gochat("--send-buffer=3", *BIG) as chat,
        join(chat.port) as speaker,
        deaf(chat.port) as slow,
    ):
        say_long(speaker, 150)
        frames, close = frames_to_end(slow)
        assert sum(got.payload.count(b"\n") + 1 for got in frames) < 150
        assert close is not None
        assert close.payload == b""


# Shutdown.

#: Longer than any test, so a test that passes has not waited for it.
NEVER = "--shutdown-timeout=600"


def said_since_it_listens(chat: Gochat) -> list[str]:
    """Return the log lines after "listening on", without dates."""
    lines = [re.sub(DATE, "", line) for line in chat.lines]
    return lines[lines.index(f"listening on 127.0.0.1:{chat.port}, open {chat.url}/") + 1 :]


def is_free(port: int) -> bool:
    listen(f"127.0.0.1:{port}").close()
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_end(number: int) -> None:
    """SIGINT and SIGTERM close every client with 1001 and end the command with status 0."""
    with Gochat("--read-header-timeout=0.5", NEVER) as chat:
        peers = [join(chat.port) for _ in range(5)]
        with Peer(chat.port) as half:
            half.sock.sendall(b"GET / HT")  # an incomplete request
            chat.process.send_signal(number)
            for peer in peers:
                assert parted(peer).code == 1001
            assert chat.wait() == 0
        for peer in peers:
            peer.sock.close()
        assert said_since_it_listens(chat) == ["stopping"]
        assert is_free(chat.port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_an_empty_room(number: int) -> None:
    with Gochat(NEVER) as chat:
        assert chat.stop(number) == 0
        assert said_since_it_listens(chat) == ["stopping"]
        assert is_free(chat.port)


def test_a_signal_that_does_not_wake_the_main_thread() -> None:
    """A signal ends the command even if a thread other than the main thread receives it."""
    fault = """
        import signal
        from gochat import Server

        def serve_forever(self, *args, serve=Server.serve_forever):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
            serve(self, *args)

        Server.serve_forever = serve_forever
    """
    with Gochat(fault=fault) as chat:
        chat.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: any("thread hub:" in line for line in chat.lines))
        assert chat.stop(signal.SIGTERM) == 0


def test_what_is_queued_goes_out_first() -> None:
    """At shutdown, a slow client gets all its queued messages, then 1001."""
    flags = (NEVER, "--write-wait=600", *BIG)
    with Gochat(*flags) as chat, join(chat.port) as speaker, deaf(chat.port) as slow:
        slow.send("here")
        assert speaker.messages(1) == ["here"]  # so the slow client is registered
        say_long(speaker, 150)
        slow.sock.settimeout(PATIENCE)
        chat.process.send_signal(signal.SIGTERM)
        wait_until(lambda: chat.logged("stopping"))
        assert parted(speaker).code == 1001
        messages = 0
        while (got := slow.read_frame()).opcode == TEXT:
            messages += got.payload.count(b"\n") + 1
        assert messages == 1 + 150
        assert (got.opcode, got.code) == (CLOSE, 1001)
        slow.send(got.payload, CLOSE)
        assert slow.read_to_end() == []
        assert chat.wait() == 0
        assert not chat.logged("Traceback")


def test_the_end_is_not_put_off() -> None:
    """Clients that do not read, or do not answer, cannot delay shutdown past its timeout."""
    flags = ("--shutdown-timeout=1", *BIG)
    with Gochat(*flags) as chat, join(chat.port) as speaker, deaf(chat.port), join(chat.port):
        speaker.messages(1)
        with Peer(chat.port):
            say_long(speaker, 150)
            assert chat.stop(signal.SIGINT) == 0
        assert said_since_it_listens(chat) == ["stopping"]
        assert is_free(chat.port)


def test_the_second_signal_is_the_last() -> None:
    """After the first signal, no one can connect. The second ends the command immediately."""
    with Gochat(NEVER, *BIG) as chat, join(chat.port) as speaker, deaf(chat.port):
        say_long(speaker, 150)
        chat.process.send_signal(signal.SIGINT)
        wait_until(lambda: chat.logged("stopping"))
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", chat.port))
        assert chat.stop(signal.SIGINT) == -signal.SIGINT
        assert not chat.logged("Traceback")


def test_the_command_needs_no_terminal() -> None:
    """The server works without stdin, and still works after its log is closed."""
    read, write = os.pipe()
    port = free_port()
    with subprocess.Popen(
        [COMMAND, "serve", "--addr", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stderr=write
    ) as process:
        os.close(write)
        try:
            with open(read) as log:
                assert any("listening" in line for line in log)
            for _ in range(3):
                with Peer(port) as peer:
                    assert peer.request().status == 200
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_no_socket_is_a_standard_stream(closed: str) -> None:
    """Closed standard streams are replaced by /dev/null, so that no socket takes their place."""
    port = free_port()
    serve = [COMMAND, "serve", "--addr", f"127.0.0.1:{port}"]
    with subprocess.Popen(["bash", "-c", f'exec "$@" {closed}', "bash", *serve]) as process:
        try:
            wait_until(lambda: accepts(port))
            for number in range(3 - closed.count("-"), 3):
                assert os.readlink(f"/proc/{process.pid}/fd/{number}") == os.devnull
            with Peer(port) as peer:
                assert peer.request().status == 200
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


def test_a_flooder_at_its_rate_hurts_nobody() -> None:
    """--rate slows down a client that sends too much, so that slow readers stay connected."""
    flags = ("--rate=100", "--burst=5", "--send-buffer=16", "--max-message-size=8000")
    flood = memoryview(frame(b"x" * 8000) * 2500)
    with Gochat(*flags) as chat, join(chat.port) as flooder, deaf(chat.port) as slow:
        flooder.sock.settimeout(0.5)
        begin, sent = time.monotonic(), 0
        with suppress(TimeoutError):  # TCP stops the flooder
            while sent < len(flood):
                sent += flooder.sock.send(flood[sent:])
        assert sent < len(flood)
        # The flooder's messages came back, so the server read them, but no faster than the rate.
        for peer in (flooder, slow):  # the slow client has missed nothing
            got: list[str] = []
            while len(got) < 20:  # a frame can hold several messages
                got += peer.read_messages()
            assert set(got) == {"x" * 8000}
            assert time.monotonic() - begin >= (20 - 5) / 100


# Failures.


def test_a_hub_that_does_not_answer() -> None:
    """If the hub is stuck, the command still ends, with status 1."""
    fault = """
        import threading
        from gochat import Hub

        Hub.run = lambda self: threading.Event().wait()
    """
    with Gochat("--shutdown-timeout=0.5", fault=fault) as chat:
        assert chat.stop() == 1
        assert chat.lines[-1] == "gochat: the hub does not answer"


@pytest.mark.parametrize("when", ["", "self.stop.recv()"], ids=["in a chat", "at the end"])
def test_a_hub_that_fails(when: str) -> None:
    """If the hub's thread fails, the command says so and exits with status 1."""
    fault = f"""
        from gochat import Hub
        from gochat.golang.http import server

        def run(self):
            self.register.recv()
            {when}
            raise LookupError("a mistake")

        Hub.run = run
        server._CUT_WAIT = 0.5
    """
    with Gochat("--shutdown-timeout=0.5", fault=fault) as chat, Peer(chat.port) as peer:
        assert peer.open().status == 101
        if when:
            chat.process.send_signal(signal.SIGTERM)
        assert chat.wait() == 1
        assert chat.logged("the hub has failed")
        assert chat.logged("LookupError: a mistake")
        # Other threads may also log errors, because the hub is gone.
        assert "gochat: the hub has failed" in chat.lines

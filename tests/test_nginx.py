"""The chat behind a real nginx with TLS, configured as in docs/run/proxy.md."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from .browser import chromium
from .loop import resources
from .support import (
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    ROOT,
    Gochat,
    Peer,
    free_port,
    join,
    make_certificate,
    sent_page,
    wait_until,
)

#: The name in the certificate.
NAME = "chat.example.org"

#: Seconds of silence that nginx allows where a test is not about silence.
LONG = 4 * PATIENCE

#: The configuration around the server block of docs/run/proxy.md. It runs as one process, with its
#: files in the test's directory.
AROUND = """
daemon off;
master_process off;
pid {dir}/pid;
lock_file {dir}/lock;
error_log {dir}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {server}
}}
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate, with its key next to it."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "cert.pem", f"DNS:{NAME}")


AnyFront = TypeVar("AnyFront", bound="Front")


class Front:
    """nginx as a child process, on a free port of 127.0.0.1.

    page: the page with the configuration.

    changes: replacements in the configuration, where {} stands for nginx's address.

    without: the beginning of lines to leave out.

    prefix: the path of the chat.
    """

    def __init__(
        self,
        directory: Path,
        page: Path,
        changes: dict[str, str],
        *,
        without: str = "",
        prefix: str = "/",
    ) -> None:
        self.directory = directory
        self.port = free_port()
        (server,) = re.findall(r"^```nginx\n(.*?)^```", page.read_text(), re.M | re.S)
        for old, new in changes.items():
            assert old in server, f"{page} has no {old!r}"
            server = server.replace(old, new.replace("{}", f"127.0.0.1:{self.port}"))
        if prefix != "/":  # described in docs/run/proxy.md
            server = server.replace("location /", f"location {prefix}")
            server = server.replace("location = /", f"location = {prefix}")
            server = re.sub(r"proxy_pass (\S+);", r"proxy_pass \1/;", server, count=1)
            server = re.sub(r"proxy_pass (\S+\d);", r"proxy_pass \1/ws;", server, count=1)
        if without:
            server, lines = re.subn(rf"^ *{without} .*\n", "", server, flags=re.M)
            assert lines
        config = directory / "nginx.conf"
        config.write_text(AROUND.format(dir=directory, server=server))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "there is no nginx"
        with (directory / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [program, "-p", directory, "-c", config],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            wait_until(self.listens, "nginx at work")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __enter__(self: AnyFront) -> AnyFront:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        assert status == 0, self.log()

    def log(self) -> str:
        files = [self.directory / "stderr", self.directory / "error.log"]
        return "".join(file.read_text() for file in files if file.exists())


class Nginx(Front):
    """nginx with TLS in front of a chat.

    read_timeout: how long the chat may be silent before nginx disconnects, in seconds.
    """

    def __init__(
        self,
        directory: Path,
        certificate: Path,
        chat: Gochat,
        *,
        read_timeout: float = LONG,
        without: str = "",
        prefix: str = "/",
    ) -> None:
        self.certificate = certificate
        changes = {
            "listen 443 ssl": "listen {} ssl",
            f"/etc/ssl/{NAME}.pem": str(certificate),
            f"/etc/ssl/{NAME}.key": str(certificate.with_suffix(".key")),
            "http://127.0.0.1:8080": f"http://127.0.0.1:{chat.port}",
            "proxy_read_timeout 75s": f"proxy_read_timeout {read_timeout * 1000:.0f}ms",
        }
        super().__init__(
            directory, ROOT / "docs/run/proxy.md", changes, without=without, prefix=prefix
        )

    @property
    def origin(self) -> str:
        """The origin of pages served through nginx."""
        return f"https://{NAME}:{self.port}"

    def peer(self, source: str = "") -> Peer:
        """Return a client with TLS that has verified the certificate."""
        peer = Peer(self.port, source=source)
        context = ssl.create_default_context(cafile=self.certificate)
        try:
            peer.sock = context.wrap_socket(peer.sock, server_hostname=NAME)
        except BaseException:
            peer.sock.close()
            raise
        peer.host = f"{NAME}:{self.port}"
        return peer

    def join(self, source: str = "") -> Peer:
        """Return a client that has joined, with a browser's Origin."""
        peer = self.peer(source)
        assert peer.open(headers={"Origin": self.origin}).status == 101
        peer.send("hello")
        while "hello" not in peer.messages(1):
            pass
        return peer


@pytest.fixture(scope="module")
def chat() -> Iterator[Gochat]:
    """A chat that trusts nginx as its proxy."""
    with Gochat("--trust-proxy", "127.0.0.1") as chat:
        yield chat
        assert chat.stop() == 0
        assert not chat.logged("Traceback")


@pytest.fixture
def nginx(tmp_path: Path, certificate: Path, chat: Gochat) -> Iterator[Nginx]:
    with Nginx(tmp_path, certificate, chat) as nginx:
        yield nginx
        assert not re.search(r"\[(error|crit)\]", nginx.log())


def test_the_page_by_https(nginx: Nginx) -> None:
    with nginx.peer() as peer:
        answer = peer.request("/")
    assert answer.status == 200
    assert answer.body == sent_page("home.html")
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert "wss:" in answer.headers["content-security-policy"]
    with nginx.peer() as peer:
        assert peer.request("/", {"If-None-Match": answer.headers["etag"]}).status == 304
    with nginx.peer() as peer:
        assert peer.request("/nope").status == 404


def test_a_browser_by_https(nginx: Nginx) -> None:
    with chromium() as browser:
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(PATIENCE * 1000)
        urls: list[str] = []
        page.on("websocket", lambda socket: urls.append(socket.url))
        page.goto(f"https://127.0.0.1:{nginx.port}/")
        page.wait_for_selector("#status[data-state=connected]")
        with nginx.join() as peer:
            page.locator("#msg").fill("hi from the page")
            page.locator("#msg").press("Enter")
            assert peer.messages(1) == ["hi from the page"]
        page.wait_for_selector(".message .text >> text=hi from the page")
    assert urls == [f"wss://127.0.0.1:{nginx.port}/ws"]


def test_a_chat_by_wss(nginx: Nginx, chat: Gochat) -> None:
    with nginx.join() as alice, nginx.join() as bob, Peer(chat.port) as direct:
        assert alice.messages(1) == ["hello"]
        assert direct.open().status == 101
        direct.send("hi all")
        for peer in (alice, bob, direct):
            assert peer.messages(1) == ["hi all"]
        bob.send("hi Alice")
        assert alice.messages(1) == ["hi Alice"]
        bob.send(b"\x03\xe8", CLOSE)
        assert [(f.opcode, f.payload) for f in bob.read_to_end()][-1] == (CLOSE, b"\x03\xe8")


def test_the_end_of_the_chat_by_wss(tmp_path: Path, certificate: Path) -> None:
    with Gochat() as chat, Nginx(tmp_path, certificate, chat) as nginx, nginx.join() as peer:
        chat.process.send_signal(signal.SIGTERM)
        assert [f.code for f in peer.read_to_end()] == [1001]
        assert chat.wait() == 0


def test_origins_by_wss(nginx: Nginx, chat: Gochat) -> None:
    """Only pages served through the proxy may connect. X-Forwarded-Host has no effect."""
    for origin, status in (
        (nginx.origin, 101),
        (nginx.origin.upper(), 101),
        (f"https://{NAME}", 403),
        (f"https://{NAME}:443", 403),
        (chat.url, 403),
        ("https://evil.example", 403),
        ("null", 403),
    ):
        with nginx.peer() as peer:
            headers = {"Origin": origin, "X-Forwarded-Host": origin.partition("://")[2]}
            assert peer.open(headers=headers).status == status
    wait_until(lambda: chat.logged("origin 'https://evil.example' may not connect"))


def test_no_handshake_by_https(nginx: Nginx) -> None:
    """A bad handshake gets the same status through the proxy as without it."""
    with nginx.peer() as peer:
        assert peer.request("/ws").status == 426
    with nginx.peer() as peer:
        assert peer.open(headers={"Sec-WebSocket-Version": "8"}).status == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("proxy_set_header Host", 403),
        ("proxy_set_header Connection", 400),
        ("proxy_set_header Upgrade", 426),
    ],
)
def test_a_line_that_is_missing(
    line: str, status: int, tmp_path: Path, certificate: Path, chat: Gochat
) -> None:
    """If one of these lines is missing from the configuration, browsers cannot connect."""
    with Nginx(tmp_path, certificate, chat, without=line) as nginx, nginx.peer() as peer:
        assert peer.open(headers={"Origin": nginx.origin}).status == status


def test_the_address_through_nginx(tmp_path: Path, certificate: Path) -> None:
    """A client's address is the one nginx sees, whatever headers the client sends."""
    flags = ("--trust-proxy", "127.0.0.1", "--max-clients-per-address", "1")
    with Gochat(*flags) as chat, Nginx(tmp_path, certificate, chat) as nginx:
        with nginx.join("127.0.0.2"), nginx.join("127.0.0.3"), nginx.peer("127.0.0.2") as forger:
            headers = {"X-Forwarded-For": "192.0.2.66, 127.0.0.1", "X-Real-IP": "192.0.2.66"}
            assert forger.open(headers=headers).status == 503
            wait_until(lambda: chat.logged("(503): 1 of 127.0.0.2 are being served"))
            chat.process.send_signal(signal.SIGUSR1)
            pumps = [
                f" {pump} {source}:"
                for pump in ("readPump", "writePump")
                for source in ("127.0.0.2", "127.0.0.3")
            ]
            wait_until(lambda: all(map(chat.logged, pumps)))
        with nginx.peer("127.0.0.4") as forger:
            assert forger.open(headers=headers).status == 101
            forger.send("hi")
            assert forger.messages(1) == ["hi"]
            before = len(chat.lines)
            chat.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: any("Pump 127.0.0.4:" in line for line in chat.lines[before:]))
        assert chat.stop() == 0
        assert not chat.logged("192.0.2.66")


def test_a_silent_chat_stays(tmp_path: Path, certificate: Path) -> None:
    """A silent connection stays open if pings come faster than nginx's read timeout."""
    with (
        Gochat("--ping-period", "0.25") as chat,
        Nginx(tmp_path, certificate, chat, read_timeout=3) as nginx,
        nginx.join() as peer,
    ):
        begin = time.monotonic()
        while time.monotonic() < begin + 4:
            got = peer.read_frame()
            assert got.opcode == PING
            peer.send(got.payload, PONG)
        peer.send("still here")
        assert peer.messages(1) == ["still here"]


def test_a_silent_chat_with_slow_pings_is_cut(tmp_path: Path, certificate: Path) -> None:
    """If pings are slower than nginx's read timeout, nginx disconnects the client.

    gochat then releases the client's threads and descriptors.
    """
    with (
        Gochat() as chat,
        join(chat.port) as direct,
        Nginx(tmp_path, certificate, chat, read_timeout=1) as nginx,
    ):
        before = resources(chat)
        with nginx.join() as peer:
            assert resources(chat) > before
            assert peer.read_to_end() == []
            wait_until(lambda: resources(chat) == before, "the threads and descriptors from before")
        assert direct.messages(1) == ["hello"]
        direct.send("still here")
        assert direct.messages(1) == ["still here"]
        assert chat.stop() == 0
        assert not chat.logged("error")

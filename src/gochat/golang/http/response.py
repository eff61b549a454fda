"""A response with a line of plain text (Go: http.Error)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = ["error"]


def error(
    start_response: StartResponse,
    text: str,
    code: int,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Start a response with a line of plain text, and return its body as WSGI requires.

    text: the line, without LF. code: the HTTP status. headers: additional headers. Raises
    ValueError if the status is unknown. Thread: any.
    """
    body = f"{text}\n".encode()
    start_response(
        f"{code} {HTTPStatus(code).phrase}",
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Length", str(len(body))),
            *headers,
        ],
    )
    return [body]

"""A short run of fuzz.py, and answers that it must reject."""

from __future__ import annotations

import random

import pytest

from .fuzz import ANSWER, KINDS, Answer, fuzz_server, make_input
from .support import SEED

COUNT = 1500


def test_bad_input_harms_nobody() -> None:
    """Connections with bad input end, two clients chat undisturbed, and nothing leaks."""
    try:
        fuzz = fuzz_server(COUNT, SEED)
    except AssertionError as error:
        raise AssertionError(f"with GOCHAT_SEED={SEED}: {error}") from error
    assert not fuzz.failures, "\n".join(fuzz.failures)
    assert sum(outcomes.total() for outcomes in fuzz.kinds.values()) == COUNT
    assert len(fuzz.kinds) == len(KINDS)


def test_an_input_can_be_made_again() -> None:
    """An input depends only on the seed and its number."""
    random.seed(1)
    inputs = [make_input(1, number) for number in range(500)]
    random.seed(2)
    assert [make_input(1, number) for number in reversed(range(500))] == inputs[::-1]
    assert [make_input(2, number) for number in range(500)] != inputs


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"SSH-2.0-x\r\n\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 400 \xff\r\n\r\n", id="bytes in the status"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nContent-Le", id="half a head"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno", id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200", id="two"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", id="status"),
        pytest.param(b"HTTP/1.1 101 x\r\n\r\n\x81\x80\0\0\0\0", id="a masked frame"),
        pytest.param(b"HTTP/1.1 101 x\r\n\r\n\x01\0", id="a fragment"),
        pytest.param(b"HTTP/1.1 101 x\r\n\r\n\x82\0", id="a binary message"),
        pytest.param(b"HTTP/1.1 101 x\r\n\r\n\x88\0\x81\0", id="more behind a close"),
    ],
)
def test_an_answer_that_is_none_is_seen(wrong: bytes) -> None:
    """An invalid answer is a failure, however it is split into packets."""

    def judge(size: int) -> None:
        answer = Answer()
        for i in range(0, len(wrong), size):
            answer.take(wrong[i : i + size])
        assert ANSWER.fullmatch(answer.outcome("EOF"))

    for size in (1, 7, len(wrong)):
        with pytest.raises(AssertionError):
            judge(size)

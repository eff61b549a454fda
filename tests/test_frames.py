"""frames.py: making and parsing frames."""

from __future__ import annotations

import pytest

from gochat.golang.frames import client_frame, frame, mask, read_header

SIZES = [0, 1, 3, 4, 125, 126, 65535, 65536]


@pytest.mark.parametrize("size", SIZES)
def test_mask_is_bytewise(size: int) -> None:
    """Masking XORs each byte with a byte of the key. Masking again restores the data."""
    data, key = bytes(i % 251 for i in range(size)), b"\x01\x80\xff\x00"
    masked = mask(data, key)
    assert masked == bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    assert mask(bytearray(masked), bytearray(key)) == data


@pytest.mark.parametrize("size", SIZES)
def test_header_says_where_a_frame_ends(size: int) -> None:
    """read_header returns the sizes of header and payload, masked or not."""
    payload, key = b"x" * size, b"\x01\x02\x03\x04"
    for data, more in (frame(1, payload), 0), (client_frame(1, payload, key), 4):
        header = read_header(b"before" + data, 6)
        assert header is not None
        assert sum(header) == len(data)
        assert header == read_header(data + b"behind")
        known = header[0] - more  # the end of the length field
        assert read_header(data[:known]) == header
        assert read_header(data[: known - 1]) is None
        assert header[1] == size

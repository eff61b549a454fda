"""A function from Go's bytes package that Python lacks."""

from __future__ import annotations

__all__ = ["WHITE_SPACE", "trim_space"]

#: The characters that Go trims: Unicode White_Space. `str.strip` also trims U+001C to U+001F.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def trim_space(message: bytes) -> bytes:
    """Trim surrounding white space (Go: bytes.TrimSpace). The message need not be valid UTF-8."""
    text = message.decode(errors="surrogateescape").strip(WHITE_SPACE)
    return text.encode(errors="surrogateescape")

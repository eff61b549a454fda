"""The load that a run puts on a server, and the result of the run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

__all__ = ["PERCENTILES", "Latencies", "Load", "Result", "median", "medians", "ratios"]

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True)
class Load:
    """The load of one measurement. Times are in seconds."""

    clients: int = 100
    senders: int = 4
    #: Size of a message, in bytes.
    size: int = 64
    #: In a closed loop, messages that each sender keeps in flight.
    window: int = 4
    #: Messages per second from all senders together; None for a closed loop.
    rate: float | None = None
    seconds: float = 5.0
    warmup: float = 1.0

    def __str__(self) -> str:
        senders = _count(self.senders, "sender")
        if self.rate:
            pace = f"fixed rate: {self.rate:,.10g} messages/s from {senders}"
        else:
            pace = f"closed loop: {senders}, {_count(self.window, 'message')} in flight each"
        return f"{pace}, {self.size} bytes, {self.seconds:g} s after {self.warmup:g} s of warm-up"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class Latencies:
    """A histogram of latencies in nanoseconds.

    To save memory, each latency is rounded, by at most 1/512 of its value.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.samples = 0
        self.max = 0

    def add(self, value: int, weight: int) -> None:
        """Add a sample that stands for `weight` messages."""
        shift = max(value.bit_length() - 9, 0)
        # The middle of the range of values that have the same first nine bits.
        self.counts[(value >> shift << shift) + (1 << shift >> 1)] += weight
        self.samples += 1
        self.max = max(self.max, value)

    def percentile(self, percent: float) -> float | None:
        """Return a percentile in milliseconds, or None if there are no samples."""
        left = sum(self.counts.values()) * percent / 100
        for value, weight in sorted(self.counts.items()):
            left -= weight
            if left <= 0:
                return min(value, self.max) / 1e6
        return None


@dataclass(frozen=True)
class Result:
    """The result of one measurement. Times are in seconds, latencies in milliseconds."""

    url: str
    clients: int
    connect_s: float
    #: Duration of the measurement. Rates are averages over this time.
    seconds: float
    sent_per_s: float
    #: Messages received, summed over all clients.
    deliveries_per_s: float
    frames_per_s: float
    messages_per_frame: float
    #: The percentiles that PERCENTILES names, and "max"; None if no message was received.
    latency_ms: Mapping[str, float | None]
    #: Number of latencies from which the percentiles are estimated.
    samples: int
    #: Messages sent, including the warm-up.
    sent: int
    #: Messages received by all clients, including the warm-up.
    received: int
    #: Messages that did not reach clients that were still connected, summed over these clients.
    undelivered: int
    #: Number of clients that the server dropped.
    closes: int
    #: The same, by close code.
    close_codes: Mapping[int, int]
    #: Fraction of one core that the load generator used, from 0 to 1.
    generator_cpu: float
    interrupted: bool


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are not None; None if all are None."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratios(ones: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    """Divide the values of one server by those of another, round by round.

    Leaves out rounds that only one server has. A ratio is None if a value is None or the divisor 0.
    """
    pairs = zip(ones, others, strict=False)
    return [one / other if one is not None and other else None for one, other in pairs]


def medians(results: Sequence[Result]) -> Result:
    """Combine results: take the median of times, rates and latencies, and the sum of counts."""
    merged: dict[str, Any] = {
        name: statistics.median(getattr(result, name) for result in results)
        for name, value in vars(results[0]).items()
        if isinstance(value, float)
    }
    for name in ("samples", "sent", "received", "undelivered", "closes"):
        merged[name] = sum(getattr(result, name) for result in results)
    return replace(
        results[0],
        **merged,
        close_codes=sum((Counter(result.close_codes) for result in results), Counter()),
        latency_ms={
            name: median(result.latency_ms[name] for result in results)
            for name in results[0].latency_ms
        },
        interrupted=any(result.interrupted for result in results),
    )

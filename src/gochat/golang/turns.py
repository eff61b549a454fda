"""The turns of the write pumps, from the chosen runtime."""

from .goroutine import TurnsStatistics
from .runtime import turns

__all__ = ["TurnsStatistics", "turns"]

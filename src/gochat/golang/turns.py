"""The turns of the write pumps of the chosen runtime."""

from .goroutine import TurnsStatistics
from .runtime import turns

__all__ = ["TurnsStatistics", "turns"]

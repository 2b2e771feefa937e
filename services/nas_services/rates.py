"""How many requests may a token make? A bucket that fills steadily and holds a minute's worth."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Rates:
    """Token buckets by key, in this process's memory; 0 a minute sets no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # What is left, and when that was so.
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Takes one request; 0 where it may be made, else the seconds until one may."""
        if not self._per_minute:
            return 0.0
        now = self._clock()
        with self._lock:
            left, then = self._buckets.get(key, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - then) * self._per_minute / 60)
            granted = left >= 1
            self._buckets[key] = (left - 1 if granted else left, now)
        return 0.0 if granted else (1 - left) * 60 / self._per_minute

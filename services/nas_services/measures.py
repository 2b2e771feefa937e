"""How often was what asked for, and how did it go? Counted in memory, told as Prometheus text."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]


class Measures:
    """Counts the answers of this process by method, route and status."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()
        self.last_step = 0.0
        """When the reconciler's last step ended, in seconds since 1970; 0 before the first."""

    def stepped(self, now: float) -> None:
        """Notes that the reconciler's step ended."""
        self.last_step = now

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer; `route` is the pattern of its address, never the address."""
        with self._lock:
            self._answers[method, route, str(status)] += 1
            self._seconds[method, route] += seconds

    def lines(self) -> list[str]:
        """The counts as Prometheus text."""
        with self._lock:
            answers, seconds = dict(self._answers), dict(self._seconds)
        return [
            *metric(
                "nas_http_requests_total",
                "counter",
                "Answers by method, route and status.",
                (
                    ({"method": method, "route": route, "status": status}, count)
                    for (method, route, status), count in sorted(answers.items())
                ),
            ),
            *metric(
                "nas_http_request_seconds_total",
                "counter",
                "Time until an answer's end, in seconds, by method and route.",
                (
                    ({"method": method, "route": route}, total)
                    for (method, route), total in sorted(seconds.items())
                ),
            ),
        ]


def metric(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    """One metric with its samples, in Prometheus's text format."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        lines.append(f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}")
    return lines


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""What every problem of the service must be: RFC 9457, and silent about what is inside."""

from typing import Any


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem of an answer of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert {"type", "title", "instance"} <= found.keys()
    for fault in found.get("errors", ()):
        assert {"pointer", "code", "message"} <= fault.keys()
    assert "Traceback" not in answer.text
    return found

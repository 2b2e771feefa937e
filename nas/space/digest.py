"""By which short name is a value known on every machine?"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the content's canonical JSON, keys sorted."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

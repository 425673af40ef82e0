"""Settings of a broker that asks for credentials, and tokens that it takes."""

import time
from pathlib import Path
from typing import Any

import jwt

SECRET = "0123456789abcdef" * 4
RULES = {
    "publish": ["rooms/#", "own/{user}/#"],
    "subscribe": ["rooms/#", "own/{user}/#", "$dead/{user}"],
    "presence": ["rooms/#"],
    "history": ["rooms/#"],
    "consume": ["rooms/#"],
    "deny_subscribe": ["rooms/closed/#"],
    "deny_consume": ["rooms/closed/#"],
}


def token(user: str, seconds: float = 600, **claims: Any) -> str:
    """Good for so long from now on; to the millisecond."""
    now = time.time()
    return jwt.encode({"sub": user, "iat": int(now), "exp": now + seconds, **claims}, SECRET, "HS256")


def settings(folder: Path, *rules: dict[str, Any], **auth: Any) -> dict[str, Any]:
    """As in the configuration file."""
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    return {
        "tokens": [{"algorithm": "HS256", "key_file": str(secret)}],
        "permissions": list(rules or (RULES,)),
        "auth": auth,
    }

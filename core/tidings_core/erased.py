"""By what an erased id is known again: a keyed hash, which does not tell it."""

import hmac
from hashlib import sha256

KEY_BYTES = 16


def erased_key(secret: bytes, user_id: str) -> bytes:
    """The keyed hash of an id: HMAC-SHA256 under a server's secret, cut to 16 bytes."""
    return hmac.digest(secret, b"erased/" + user_id.encode(), sha256)[:KEY_BYTES]

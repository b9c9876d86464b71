"""Decision tokens: what an answer gives, and an event that follows from it brings back.

A token says which decision it is of, which release and serving config answered, and with what probability each item
that was drawn was in the answer. It is signed with the key of the state directory, so that what is learned from
outcomes rests on what was really answered. Version 1, in base64 (of URLs, without padding):

    version u8 | key id 4 bytes | expires u32, Unix seconds | release id, serving config, decision id: each u8 and bytes
    | count u16 | for each item drawn: hash u64 of its id, propensity f32 | the first 16 bytes of the HMAC-SHA256

all numbers little-endian. An item of the answer that is not told of was sure to be in it.
"""

import base64
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidings_core.errors import InvalidInput
from tidings_core.model import Snapshot
from tidings_core.ranked import Items
from tidings_core.tables import hash_id

LIFE_DAYS = 30
"""What follows from an answer follows within so many days."""
VERSION = 1
_MAC_BYTES = 16
_HEAD = struct.Struct("<B4sI")
_COUNT = struct.Struct("<H")
_DRAWN = struct.Struct("<Qf")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a token says. `propensities` maps `tables.hash_id` of an item that was drawn to its probability."""

    decision_id: str
    release_id: str
    serving_config: str
    expires: int
    propensities: Mapping[int, float]

    def propensity(self, item_id: str) -> float:
        """How likely an item of the answer was to be in it."""
        return self.propensities.get(hash_id(item_id.encode()), 1.0)


class DecisionTokens:
    """Signs and reads tokens. For any thread."""

    def __init__(self, key: bytes, new_id: Callable[[], str]) -> None:
        """`key` is the state directory's; `new_id` makes the name of a decision that has none."""
        self._key = hmac.digest(key, b"decision", "sha256")
        self._key_id = hmac.digest(self._key, b"id", "sha256")[:4]
        self._new_id = new_id

    def begin(self, release_id: str, serving_config: str, now: float) -> bytes:
        """What tokens of a release and serving config have in common at `now` (Unix seconds)."""
        expires = min(int(now) + LIFE_DAYS * 86_400, 0xFFFFFFFF)
        return _HEAD.pack(VERSION, self._key_id, expires) + _text(release_id) + _text(serving_config)

    def sign(self, begun: bytes, decision_id: str, items: Items, snapshot: Snapshot) -> bytes:
        """The token of an answer, in ASCII. A decision without a name ("") gets one."""
        content = begun + _text(decision_id or self._new_id())
        chances = items.propensities
        if chances is None:
            content += b"\0\0"
        else:
            told = zip(items.rows.tolist(), chances.tolist(), strict=True)
            drawn = [(hash_id(snapshot.items[row].encode()), chance) for row, chance in told if chance < 1.0]
            content += _COUNT.pack(len(drawn)) + b"".join(_DRAWN.pack(*one) for one in drawn)
        return base64.urlsafe_b64encode(content + self._mac(content)).rstrip(b"=")

    def read(self, token: str, now: float) -> Decision:
        """What a token says at `now` (Unix seconds). Raises InvalidInput for one that is not ours, or too old."""
        try:
            signed = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), b"-_", validate=True)
            content, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(content)):
                raise ValueError("it is signed by somebody else, or changed")
            decision = self._read(content)
        except (ValueError, struct.error, IndexError) as error:
            raise InvalidInput(
                ("decision_token", "is none of this server's: give the one that came with an answer, unchanged")
            ) from error
        if decision.expires < now:
            raise InvalidInput(
                ("decision_token", f"has expired: what follows from an answer does so within {LIFE_DAYS} days")
            )
        return decision

    def _read(self, content: bytes) -> Decision:
        version, key_id, expires = _HEAD.unpack_from(content)
        if version != VERSION or key_id != self._key_id:
            raise ValueError("another version, or another key")
        at, texts = _HEAD.size, []
        for _ in range(3):
            size = content[at]
            texts.append(content[at + 1 : at + 1 + size].decode())
            at += 1 + size
        (count,) = _COUNT.unpack_from(content, at)
        drawn = dict(_DRAWN.iter_unpack(content[at + _COUNT.size :]))
        if len(drawn) != count:
            raise ValueError("it is cut off")
        release_id, serving_config, decision_id = texts
        return Decision(decision_id, release_id, serving_config, expires, drawn)

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_MAC_BYTES]


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"{len(encoded)} bytes do not fit into a token")
    return bytes((len(encoded),)) + encoded

"""Encrypting contacts: AES-256-GCM under a key of each user, which is itself kept under the server's secret.

Who destroys a user's key destroys the contacts with it, also those in copies that hold no key of before.
"""

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tidings_core.errors import StorageFailed

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random for each message; a user's key encrypts some dozens of them, far from where they would repeat."""
ID_BYTES = 16


class ContactCipher:
    """Seals and opens contacts, and gives them names that say nothing of them."""

    def __init__(self, secret: bytes) -> None:
        """Take the server's secret, from which two keys of its own are derived."""
        self._wrap = AESGCM(_derived(secret, b"tidings contacts: keys of users"))
        self._naming = _derived(secret, b"tidings contacts: names")

    def name(self, identity: str) -> bytes:
        """The id of what has an identity, the same for every user; 16 bytes."""
        return hmac.digest(self._naming, identity.encode(), "sha256")[:ID_BYTES]

    def new_key(self, user_id: str) -> bytes:
        """A new key for a user, wrapped so that it can be stored."""
        return _encrypt(self._wrap, secrets.token_bytes(KEY_BYTES), user_id.encode())

    def seal(self, key: bytes, user_id: str, contact_id: bytes, content: bytes) -> bytes:
        """Encrypt under a user's wrapped key, bound to the user and the contact. Raises StorageFailed."""
        return _encrypt(self._key(key, user_id), content, contact_id + user_id.encode())

    def open(self, key: bytes, user_id: str, contact_id: bytes, sealed: bytes) -> bytes:
        """The inverse of `seal`. Raises StorageFailed when it was changed, is another's, or the secret is another."""
        return _decrypt(self._key(key, user_id), sealed, contact_id + user_id.encode())

    def _key(self, wrapped: bytes, user_id: str) -> AESGCM:
        return AESGCM(_decrypt(self._wrap, wrapped, user_id.encode()))


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, None, purpose).derive(secret)


def _encrypt(key: AESGCM, content: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + key.encrypt(nonce, content, bound)


def _decrypt(key: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as error:
        raise StorageFailed("a contact cannot be decrypted: it is damaged, or the key file is not its own") from error

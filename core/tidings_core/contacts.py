"""How a person can be reached: e-mail addresses, phone numbers, web-push subscriptions, tokens of devices.

Values, what is wrong with them as far as no library is needed to know, and how they are shown and stored.
"""

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from tidings_core.faults import Fault, text_fault

Channel = Literal["email", "phone", "web_push", "device"]
Platform = Literal["fcm", "apns"]
MAX_ENDPOINT_BYTES = 2048
MAX_TOKEN_BYTES = 4096
MAX_APP_ID_BYTES = 256
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
# The curve P-256 (SEC 2, section 2.4.2), on which a subscription's public key is a point.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_TOKENS: dict[Platform, str] = {"fcm": r"[A-Za-z0-9_:.-]+", "apns": r"[0-9a-fA-F]{64,200}"}


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address."""

    address: str


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone number as E.164 writes it: "+", the country and the rest, digits alone."""

    number: str


@dataclass(frozen=True, slots=True)
class WebPush:
    """A browser's push subscription (RFC 8030, RFC 8291); keys in base64url, as the browser gives them.

    `expires` is the browser's expirationTime in Unix milliseconds, 0 for none.
    """

    endpoint: str
    p256dh: str
    auth: str
    expires: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """The token of an app on a device, as FCM or APNs gave it. `app_id` is the package or bundle it belongs to."""

    platform: Platform
    app_id: str
    token: str


Contact = Email | Phone | WebPush | Device
_CHANNELS: dict[type[Contact], Channel] = {Email: "email", Phone: "phone", WebPush: "web_push", Device: "device"}
_TYPES: dict[Channel, type[Contact]] = {channel: type for type, channel in _CHANNELS.items()}


@dataclass(frozen=True, slots=True)
class SealedContact:
    """A contact as it is stored: `contact_id` a keyed hash of what it reaches, `sealed` the contact, encrypted.

    Times are Unix milliseconds; `registered` is the first time, `seen` the last, `expires` 0 for never.
    """

    contact_id: bytes
    channel: Channel
    registered: int
    seen: int
    expires: int
    sealed: bytes


def channel_of(contact: Contact) -> Channel:
    """By what a contact is reached."""
    return _CHANNELS[type(contact)]


def of_one_person(channel: Channel) -> bool:
    """Whether it reaches who holds the device now, so that it can be one person's only."""
    return channel in ("web_push", "device")


def identity(contact: Contact) -> str:
    """What makes a contact the same as another: with the same identity they reach the same place."""
    match contact:
        case Email(address):
            return f"email {address.casefold()}"
        case Phone(number):
            return f"phone {number}"
        case WebPush(endpoint):
            return f"web_push {endpoint}"
        case Device(platform, app_id, token):
            return f"device {platform} {app_id} {token.lower() if platform == 'apns' else token}"


def mask(contact: Contact) -> str:
    """A contact as it may be shown: enough to know it again, not enough to use it."""
    match contact:
        case Email(address):
            name, _, domain = address.rpartition("@")
            return f"{name[:1]}***@{domain}"
        case Phone(number):
            return f"{number[:3]}***{number[-2:]}"
        case WebPush(endpoint):
            return f"{urlsplit(endpoint).hostname}/***"
        case Device(platform, app_id, token):
            return f"{platform} {app_id} ***{token[-4:]}"


def faults_of(contact: Contact, now_ms: int) -> list[Fault]:
    """What is wrong with a subscription or token at `now_ms`, by field. Of the others only libraries know."""
    match contact:
        case WebPush(endpoint, p256dh, auth, expires):
            found = [
                ("web_push.endpoint", _endpoint_fault(endpoint)),
                ("web_push.p256dh", _point_fault(_decoded(p256dh))),
                ("web_push.auth", "" if len(_decoded(auth)) == 16 else "must be 16 bytes in base64url"),
                ("web_push.expire_time", _expiry_fault(expires, now_ms)),
            ]
        case Device(platform, app_id, token):
            found = [
                ("device.app_id", text_fault(app_id, MAX_APP_ID_BYTES, 1)),
                ("device.token", _token_fault(platform, token)),
            ]
        case _:
            found = []
    return [(field, problem) for field, problem in found if problem]


def _endpoint_fault(endpoint: str) -> str:
    problem = text_fault(endpoint, MAX_ENDPOINT_BYTES, 1)
    if problem:
        return problem
    if not endpoint.isascii() or re.search(r"[\s\"<>\\^`{|}]", endpoint):
        return "must be an address as the browser gave it, in ASCII"
    try:
        parts = urlsplit(endpoint)
        parts.port  # noqa: B018  (a port that is none is found when it is read)
    except ValueError:
        return "is no address"
    if parts.scheme != "https":
        return "must begin with https://"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "may hold neither a user nor a fragment"
    # A push service has a name. Anything else would let whoever registers make this server call machines near it.
    host = parts.hostname or ""
    if not re.fullmatch(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", host):
        return "must name a push service by its domain"
    return ""


def _decoded(text: str) -> bytes:
    """The bytes of base64url with or without padding, b"" when it is none."""
    if len(text) > 128 or not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", text):
        return b""
    try:
        bare = text.rstrip("=")
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        return b""


def _point_fault(point: bytes) -> str:
    if len(point) != 65 or point[0] != 4:
        return "must be a public key of P-256: 65 bytes in base64url, uncompressed"
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    on_curve = x < _P and y < _P and (y * y - (x * x * x - 3 * x + _B)) % _P == 0
    return "" if on_curve else "is no point of the curve P-256"


def _expiry_fault(expires: int, now_ms: int) -> str:
    if expires == 0 or now_ms < expires <= LAST_MS:
        return ""
    return "has come: subscribe anew" if expires <= now_ms else "must be before the year 10000"


def _token_fault(platform: Platform, token: str) -> str:
    problem = text_fault(token, MAX_TOKEN_BYTES, 1)
    if not problem and not re.fullmatch(_TOKENS[platform], token):
        problem = {
            "fcm": "must be a registration token: letters, digits, '_', ':', '.' and '-'",
            "apns": "must be a device token: 64 to 200 hexadecimal digits",
        }[platform]
    return problem


def to_bytes(contact: Contact) -> bytes:
    """A contact as it is sealed."""
    return json.dumps({"channel": channel_of(contact), **asdict(contact)}, ensure_ascii=False).encode()


def from_bytes(content: bytes) -> Contact:
    """The contact that `to_bytes` wrote. Raises ValueError, KeyError or TypeError when it is none."""
    fields: dict[str, Any] = json.loads(content)
    return _TYPES[fields.pop("channel")](**fields)

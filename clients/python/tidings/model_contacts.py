"""Values of the client: how people can be reached."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

from tidings import errors


class ContactChannel(Enum):
    """By what a person is reached."""

    UNSPECIFIED = "unspecified"
    EMAIL = "email"
    PHONE = "phone"
    WEB_PUSH = "web_push"
    DEVICE = "device"


class DevicePlatform(Enum):
    """Who brings pushes to a device."""

    FCM = "fcm"
    APNS = "apns"


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address."""

    address: str


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone number in the international form, such as "+4930901820"."""

    number: str


@dataclass(frozen=True, slots=True, repr=False)
class WebPush:
    """A browser's push subscription; the keys in base64url, as the browser gives them."""

    endpoint: str
    p256dh: str
    auth: str
    expire_time: datetime | None = None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The subscription that a browser wrote (`JSON.stringify(subscription)`); raises InvalidArgument."""
        try:
            fields: dict[str, Any] = json.loads(text)
            expires = fields.get("expirationTime")
            moment = None if expires is None else datetime.fromtimestamp(expires / 1000, UTC)
            return cls(fields["endpoint"], fields["keys"]["p256dh"], fields["keys"]["auth"], moment)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError) as error:
            raise errors.InvalidArgument(
                "this is no subscription of a browser: give what JSON.stringify(subscription) makes, with endpoint, "
                "keys.p256dh, keys.auth and, if any, expirationTime"
            ) from error


@dataclass(frozen=True, slots=True, repr=False)
class DeviceToken:
    """The token of an app on a device, as FCM or APNs gave it; `platform` is a DevicePlatform or its text."""

    platform: DevicePlatform | str
    app_id: str  # package or bundle
    token: str


Contact = Email | Phone | WebPush | DeviceToken


@dataclass(frozen=True, slots=True)
class RegisteredContact:
    """What became of a registration."""

    contact_id: str
    new: bool  # the user did not have it before
    others: int  # so many other users have it too
    taken: bool  # another user had it, who has it no longer


@dataclass(frozen=True, slots=True)
class KnownContact:
    """A contact as it is shown: enough to know it again, not enough to use it."""

    contact_id: str
    channel: ContactChannel
    masked: str
    register_time: datetime | None  # when it was registered first
    seen_time: datetime | None  # when it was registered last
    expire_time: datetime | None  # None: never

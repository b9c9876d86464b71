"""ContactService: how people can be reached, from bytes and to bytes."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import structlog
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import contact_pb2
from tidings.v1 import contact_service_pb2 as pb
from tidings_core.contacts import Channel, Contact, Device, Email, Phone, Platform, WebPush, mask
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.faults import Fault
from tidings_server.application.contacts import ContactBook, KnownContact, Registered
from tidings_server.transport.calls import Call, parse

_PLATFORMS: dict[int, Platform] = {
    contact_pb2.DEVICE_PLATFORM_FCM: "fcm",
    contact_pb2.DEVICE_PLATFORM_APNS: "apns",
}
_CHANNELS: dict[Channel, contact_pb2.ContactChannel] = {
    "email": contact_pb2.CONTACT_CHANNEL_EMAIL,
    "phone": contact_pb2.CONTACT_CHANNEL_PHONE,
    "web_push": contact_pb2.CONTACT_CHANNEL_WEB_PUSH,
    "device": contact_pb2.CONTACT_CHANNEL_DEVICE,
}

log = structlog.get_logger(__name__)


class ContactHandlers:
    """The handlers of ContactService."""

    def __init__(self, book: ContactBook) -> None:
        self._book = book

    def register_contact(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer RegisterContact calls together. Blocks until what they change is on disk."""
        return [_answered(future, _registered) for future in [_begun(self._register, call.body) for call in calls]]

    def remove_contact(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer RemoveContact calls together. Blocks until what they change is on disk."""
        return [_answered(future, _removed) for future in [_begun(self._remove, call.body) for call in calls]]

    def _register(self, body: bytes) -> "Future[Registered]":
        request = parse(pb.RegisterContactRequest(), body)
        contact, faults = read_contact(request.contact)
        if contact is None or faults:
            raise InvalidInput(*_user_faults(request.user_id), *faults)
        return self._book.register(request.user_id, contact)

    def _remove(self, body: bytes) -> "Future[bool]":
        request = parse(pb.RemoveContactRequest(), body)
        faults, contact_id = _user_faults(request.user_id), b""
        match request.WhichOneof("named"):
            case "contact_id" if re.fullmatch("[0-9a-f]{32}", request.contact_id):
                contact_id = bytes.fromhex(request.contact_id)
            case "contact_id":
                faults.append(("contact_id", "must be 32 hexadecimal digits, as RegisterContact or GetProfile gave it"))
            case "contact":
                contact, found = read_contact(request.contact)
                faults += found
                if contact is not None and not faults:
                    contact_id = self._book.name(contact)
            case _:
                faults.append(("contact_id", "is missing: name the contact by its id, or say what it is"))
        if faults:
            raise InvalidInput(*faults)
        return self._book.remove(request.user_id, contact_id)


def read_contact(message: contact_pb2.Contact) -> tuple[Contact | None, list[Fault]]:
    """The contact of a message, and what cannot be meant by it; None when it says none."""
    match message.WhichOneof("contact"):
        case "email":
            return Email(message.email), []
        case "phone":
            return Phone(message.phone), []
        case "web_push":
            given = message.web_push
            # An end that was before 1970 is one that has come, not one that never does.
            expires = (_milliseconds(given.expire_time) or 1) if given.HasField("expire_time") else 0
            return WebPush(given.endpoint, given.p256dh, given.auth, expires), []
        case "device":
            platform = _PLATFORMS.get(message.device.platform)
            if platform is None:
                return None, [("contact.device.platform", "must be DEVICE_PLATFORM_FCM or DEVICE_PLATFORM_APNS")]
            return Device(platform, message.device.app_id, message.device.token), []
    return None, [("contact", "is missing: set exactly one of email, phone, web_push and device")]


def show_contact(known: KnownContact) -> contact_pb2.KnownContact:
    """A contact, masked."""
    return contact_pb2.KnownContact(
        contact_id=known.contact_id.hex(),
        channel=_CHANNELS[known.channel],
        masked=mask(known.contact),
        register_time=_stamp(known.registered),
        seen_time=_stamp(known.seen),
        expire_time=_stamp(known.expires) if known.expires else None,
    )


def _user_faults(user_id: str) -> list[Fault]:
    problem = id_fault(user_id)
    return [("user_id", problem)] if problem else []


def _begun(begin: "Callable[[bytes], Future[Any]]", body: bytes) -> "Future[Any] | TidingsError":
    try:
        return begin(body)
    except TidingsError as error:
        return error
    except Exception as error:  # A fault of ours; it must not hurt the other calls.
        return _failed(error)


def _answered(future: "Future[Any] | TidingsError", show: Callable[[Any], Message]) -> bytes | TidingsError:
    if isinstance(future, TidingsError):
        return future
    try:
        return show(future.result()).SerializeToString()
    except TidingsError as error:
        return error
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> TidingsError:
    # Neither its words nor its values are logged: a contact may stand in them.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    log.error("a contact could not be kept", kind=type(error).__name__, where=where)
    return TidingsError("the server failed; its log says why")


def _registered(made: Registered) -> pb.RegisterContactResponse:
    return pb.RegisterContactResponse(
        contact_id=made.contact_id.hex(), new=made.new, others=made.others, taken=made.taken
    )


def _removed(found: bool) -> pb.RemoveContactResponse:
    return pb.RemoveContactResponse(removed=found)


def _stamp(time: int) -> Timestamp:
    return Timestamp(seconds=time // 1000, nanos=time % 1000 * 1_000_000)


def _milliseconds(message: Timestamp) -> int:
    return message.seconds * 1000 + message.nanos // 1_000_000

"""Between the client's values and the wire: contacts."""

from tidings import wire
from tidings.model_contacts import (
    Contact,
    ContactChannel,
    DevicePlatform,
    DeviceToken,
    Email,
    KnownContact,
    Phone,
    RegisteredContact,
    WebPush,
)
from tidings.v1 import contact_pb2, contact_service_pb2

_PLATFORMS = {
    DevicePlatform.FCM: contact_pb2.DEVICE_PLATFORM_FCM,
    DevicePlatform.APNS: contact_pb2.DEVICE_PLATFORM_APNS,
}
_CHANNELS = {
    contact_pb2.CONTACT_CHANNEL_EMAIL: ContactChannel.EMAIL,
    contact_pb2.CONTACT_CHANNEL_PHONE: ContactChannel.PHONE,
    contact_pb2.CONTACT_CHANNEL_WEB_PUSH: ContactChannel.WEB_PUSH,
    contact_pb2.CONTACT_CHANNEL_DEVICE: ContactChannel.DEVICE,
}


def register_request(user_id: str, contact: Contact) -> contact_service_pb2.RegisterContactRequest:
    """Return the request to register a contact; raises InvalidArgument when it cannot be sent."""
    request = contact_service_pb2.RegisterContactRequest()
    wire.fill(request, "user_id", user_id)
    _fill(request.contact, contact)
    return request


def registered(message: contact_service_pb2.RegisterContactResponse) -> RegisteredContact:
    """Return what became of a registration."""
    return RegisteredContact(message.contact_id, message.new, message.others, message.taken)


def remove_request(user_id: str, contact: str | Contact) -> contact_service_pb2.RemoveContactRequest:
    """Return the request to remove a contact, named by its id or by itself."""
    request = contact_service_pb2.RemoveContactRequest()
    wire.fill(request, "user_id", user_id)
    if isinstance(contact, str):
        wire.fill(request, "contact_id", contact)
    else:
        _fill(request.contact, contact)
    return request


def known(message: contact_pb2.KnownContact) -> KnownContact:
    """Return a contact as a profile shows it."""
    return KnownContact(
        message.contact_id,
        _CHANNELS.get(message.channel, ContactChannel.UNSPECIFIED),
        message.masked,
        wire.time_of(message, "register_time"),
        wire.time_of(message, "seen_time"),
        wire.time_of(message, "expire_time"),
    )


def _fill(message: contact_pb2.Contact, contact: Contact) -> None:
    match contact:
        case Email(address):
            wire.fill(message, "email", address)
        case Phone(number):
            wire.fill(message, "phone", number)
        case WebPush():
            for name in ("endpoint", "p256dh", "auth"):
                wire.fill(message.web_push, name, getattr(contact, name), "contact.web_push.")
            wire.fill_time(message.web_push, "expire_time", contact.expire_time, "contact.web_push.")
        case DeviceToken(platform, app_id, token):
            try:
                message.device.platform = _PLATFORMS[DevicePlatform(platform)]
            except ValueError as error:
                raise wire.unfit("contact.device.platform", platform, "fcm or apns is wanted") from error
            wire.fill(message.device, "app_id", app_id, "contact.device.")
            wire.fill(message.device, "token", token, "contact.device.")
        case _:
            raise wire.unfit("contact", contact, "an Email, Phone, WebPush or DeviceToken is wanted")

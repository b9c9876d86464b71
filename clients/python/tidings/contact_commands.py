"""`tidings contacts`: how a user can be reached."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidings import commands, errors, show
from tidings.client import Client
from tidings.model_contacts import Contact, DeviceToken, Email, KnownContact, Phone, RegisteredContact, WebPush

_SECONDS = 5.0


def add_contacts(actions: Any, common: Callable[[], argparse.ArgumentParser], user: str) -> None:
    """Add `tidings contacts` to the commands; `user` says what a user is."""
    parser = actions.add_parser("contacts", help="how a user can be reached: add, list, remove", parents=[common()])
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    add = parts.add_parser("add", help="register a contact", parents=[common()])
    add.set_defaults(run=register, refuse=add.error, default_timeout=_SECONDS)
    add.add_argument("user", metavar="USER", help=user)
    which = add.add_mutually_exclusive_group(required=True)
    which.add_argument("--email", metavar="ADDRESS", help="an e-mail address")
    which.add_argument("--phone", metavar="NUMBER", help="a phone number, such as +4930901820")
    which.add_argument("--web-push", metavar="FILE", help="a browser's subscription as JSON (- for standard input)")
    which.add_argument("--fcm", metavar="TOKEN", help="a registration token of FCM, with --app")
    which.add_argument("--apns", metavar="TOKEN", help="a device token of APNs, with --app")
    add.add_argument("--app", metavar="ID", default="", help="package or bundle of the app that has the token")
    known = parts.add_parser("list", help="the contacts of a user, masked", parents=[common()])
    known.set_defaults(run=list_contacts, default_timeout=_SECONDS)
    known.add_argument("user", metavar="USER", help=user)
    remove = parts.add_parser("remove", help="remove a contact", parents=[common()])
    remove.set_defaults(run=remove_contact, default_timeout=_SECONDS)
    remove.add_argument("user", metavar="USER", help=user)
    remove.add_argument("contact", metavar="CONTACT_ID", help="as add and list show it")


def register(connection: Client, arguments: argparse.Namespace) -> int:
    """Register a contact."""
    if (arguments.fcm or arguments.apns) and not arguments.app:
        arguments.refuse("a token needs --app, the package or bundle that has it")
    done = connection.register_contact(arguments.user, _contact(arguments))
    commands.say(arguments, done, _shown)
    return 0


def list_contacts(connection: Client, arguments: argparse.Namespace) -> int:
    """Print the contacts of a user; none for one of whom nothing is known."""
    try:
        contacts = connection.get_profile(arguments.user).contacts
    except errors.NotFound:
        contacts = ()
    commands.say(arguments, contacts, lambda found: "\n".join(map(line, found)) or "no contacts")
    return 0


def remove_contact(connection: Client, arguments: argparse.Namespace) -> int:
    """Remove a contact; 1 when the user does not have it."""
    removed = connection.remove_contact(arguments.user, arguments.contact)
    commands.say(arguments, {"removed": removed}, lambda _: "removed" if removed else "the user has no such contact")
    return 0 if removed else 1


def line(contact: KnownContact) -> str:
    """One contact on one line."""
    until = f"  until {contact.expire_time:%Y-%m-%d}" if contact.expire_time else ""
    return f"{contact.contact_id}  {contact.channel.value:8}  {show.clean(contact.masked)}{until}"


def _shown(done: RegisteredContact) -> str:
    also = f", also of {done.others} other user{'s' * (done.others > 1)}" if done.others else ""
    taken = ", taken from another user" if done.taken else ""
    return f"{done.contact_id}  {'new' if done.new else 'known before'}{also}{taken}"


def _contact(arguments: argparse.Namespace) -> Contact:
    if arguments.email is not None:
        return Email(arguments.email)
    if arguments.phone is not None:
        return Phone(arguments.phone)
    if arguments.fcm is not None:
        return DeviceToken("fcm", arguments.app, arguments.fcm)
    if arguments.apns is not None:
        return DeviceToken("apns", arguments.app, arguments.apns)
    if arguments.web_push == "-":
        return WebPush.from_json(sys.stdin.read())
    try:
        return WebPush.from_json(Path(arguments.web_push).read_bytes())
    except OSError as error:
        raise errors.InvalidArgument(f"{arguments.web_push} cannot be read: {error.strerror}") from error

"""Contacts as values: what is wrong with them, what makes two the same, how they are shown and stored."""

import pytest

from tidings_core.contacts import (
    Contact,
    Device,
    Email,
    Phone,
    WebPush,
    channel_of,
    faults_of,
    from_bytes,
    identity,
    mask,
    to_bytes,
)

NOW = 1_790_000_000_000
# The base point of the curve, and 16 bytes, as a browser writes them.
POINT = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
AUTH = "AAECAwQFBgcICQoLDA0ODw"
GOOD = WebPush("https://push.example.com/send/abc", POINT, AUTH)


def fields(contact: Contact) -> list[str]:
    """The fields that have a fault."""
    return [field for field, _ in faults_of(contact, NOW)]


def test_what_a_browser_gives_has_no_fault() -> None:
    """With or without padding, with or without an end."""
    assert fields(GOOD) == []
    assert fields(WebPush(GOOD.endpoint + ":x?y=1", POINT + "=", AUTH + "==", NOW + 1)) == []
    assert fields(Device("fcm", "com.example.shop", "abc:APA91b_x-.1")) == []
    assert fields(Device("apns", "com.example.shop", "aB" * 32)) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "http://push.example.com/x",
        "https://user@push.example.com/x",
        "https://push.example.com/x#y",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://localhost/x",
        "https://metadata/x",
        "https://2130706433/x",
        "https://push.example.com:port/x",
        "https://push.example.com/a b",
        "https://push.example.com/a\nb",
        "https://пуш.example.com/x",
        "https://[bad/x",
        "https://push.example.com/" + "x" * 2048,
        "ftp://push.example.com/x",
        "push.example.com/x",
    ],
)
def test_an_endpoint_that_is_no_push_service_is_refused(endpoint: str) -> None:
    """This server will call it: https, a domain, nothing near us."""
    assert fields(WebPush(endpoint, POINT, AUTH)) == ["web_push.endpoint"]


def test_keys_are_of_their_length_and_on_the_curve() -> None:
    """All faults at once."""
    off = POINT[:-2] + ("A" if POINT[-2] != "A" else "B") + POINT[-1]
    for p256dh in ("", "BGsX", off, "A" * 87, POINT + "!", "x" * 100_000):
        assert fields(WebPush(GOOD.endpoint, p256dh, AUTH)) == ["web_push.p256dh"]
    for auth in ("", "AAEC", AUTH + "AAAA", "+" * 22):
        assert fields(WebPush(GOOD.endpoint, POINT, auth)) == ["web_push.auth"]
    for expires in (NOW, 1, -5, 10**18):
        assert fields(WebPush(GOOD.endpoint, POINT, AUTH, expires)) == ["web_push.expire_time"]
    assert len(fields(WebPush("x", "x", "x", 1))) == 4


@pytest.mark.parametrize(
    ("device", "wrong"),
    [
        (Device("fcm", "", "abc"), "device.app_id"),
        (Device("fcm", "a\x00b", "abc"), "device.app_id"),
        (Device("fcm", "app", ""), "device.token"),
        (Device("fcm", "app", "a b"), "device.token"),
        (Device("fcm", "app", "a" * 4097), "device.token"),
        (Device("apns", "app", "g" * 64), "device.token"),
        (Device("apns", "app", "a" * 63), "device.token"),
        (Device("apns", "app", "a" * 64 + "\n"), "device.token"),
    ],
)
def test_a_token_is_of_its_platform(device: Device, wrong: str) -> None:
    """And of an app."""
    assert fields(device) == [wrong]


def test_what_reaches_the_same_place_is_the_same() -> None:
    """Whoever writes an address in capitals means the same one; other keys of one endpoint take the old ones' place."""
    assert identity(Email("Ann@example.com")) == identity(Email("ann@example.com"))
    assert identity(GOOD) == identity(WebPush(GOOD.endpoint, AUTH, POINT))
    assert identity(Device("apns", "a", "AB")) == identity(Device("apns", "a", "ab"))
    different: list[Contact] = [
        Email("a@b.example"),
        Phone("+4930901820"),
        GOOD,
        Device("fcm", "a", "x"),
        Device("fcm", "a", "X"),
        Device("fcm", "b", "x"),
        Device("apns", "a", "x"),
    ]
    assert len({identity(contact) for contact in different}) == len(different)


def test_what_is_shown_cannot_be_used() -> None:
    """Enough to know it again."""
    assert mask(Email("ann.lee@example.com")) == "a***@example.com"
    assert mask(Phone("+4915112345678")) == "+49***78"
    assert mask(GOOD) == "push.example.com/***"
    assert mask(Device("fcm", "com.example.shop", "secret-token-1234")) == "fcm com.example.shop ***1234"


@pytest.mark.parametrize(
    "contact", [Email("用户@例子.广告"), Phone("+4930901820"), GOOD, Device("apns", "com.example.shop", "ab" * 32)]
)
def test_what_is_stored_comes_back(contact: Contact) -> None:
    """Every kind."""
    assert from_bytes(to_bytes(contact)) == contact
    assert channel_of(contact) in to_bytes(contact).decode()

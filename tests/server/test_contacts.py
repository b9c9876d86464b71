"""Contacts: registered, sealed, shown masked, taken over, joined, expired and destroyed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tidings
from tests.core.test_contacts import AUTH, POINT
from tests.server.conftest import Clock, Shop
from tests.server.storing import WAIT, Opened
from tests.support.server import RunningServer, start_server
from tidings import aio
from tidings.__main__ import main
from tidings_core.contacts import Contact, Device, Email, Phone, SealedContact, WebPush
from tidings_core.errors import InvalidInput, StorageFailed
from tidings_server.adapters.contact_cipher import ContactCipher
from tidings_server.adapters.email_addresses import normal_address
from tidings_server.adapters.phone_numbers import normal_number
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application import contacts
from tidings_server.application.contacts import ContactBook, ContactRules, Registered
from tidings_server.application.store import Transaction

DAY = 86_400
SECRET = b"s" * 32
MAIL, PHONE = Email("Ann.Lee@Example.com"), Phone("+49 30 901820")
BROWSER = WebPush("https://push.example.com/send/abc", POINT, AUTH)
APP = Device("fcm", "com.example.shop", "token-of-a-device")


@dataclass
class Book:
    """A book of contacts on a real store, with a clock to set."""

    book: ContactBook
    store: SqliteStore
    clock: Clock

    def register(self, user_id: str, contact: Contact) -> Registered:
        """Register, to the end, a moment after what was before."""
        self.clock.now += 0.01
        return self.book.register(user_id, contact).result(WAIT)

    def of(self, user_id: str) -> list[Contact]:
        """The contacts of a user, those registered first in front."""
        return [known.contact for known in self.book.read(user_id)]


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Iterator[Book]:
    """A book that takes three contacts of a user, stale after ten days."""
    (tmp_path / "state").mkdir()
    store = SqliteStore.open(tmp_path / "state", lambda: int(clock.now * 1000))
    rules = ContactRules(3, 10 * DAY * 1000, normal_address, normal_number)
    yield Book(ContactBook(store, ContactCipher(SECRET), rules, clock), store, clock)
    store.close()


def sealed(name: bytes, seen: int = 1, expires: int = 0) -> SealedContact:
    """A contact whose content does not matter."""
    return SealedContact(name, "email", 1, seen, expires, b"sealed \x00")


def put(user_id: str, key: bytes, *contacts: SealedContact) -> Callable[[Transaction], None]:
    """A job that stores contacts."""

    def job(tx: Transaction) -> None:
        for contact in contacts:
            tx.contacts.put(user_id, key, contact)

    return job


def test_stored_contacts_are_their_users_own(opened: Opened) -> None:
    """Each adapter: read as they were put, replaced by id, found by id, with the key that came last."""
    opened.do(put("ann", b"k1", sealed(b"a"), sealed(b"b")))
    opened.do(put("bob", b"k2", sealed(b"a", 5)))
    opened.do(put("ann", b"k3", sealed(b"a", 7)))
    opened.reopen()
    assert opened.store.contacts("ann") == (b"k3", [sealed(b"a", 7), sealed(b"b")])
    assert opened.do(lambda tx: tx.contacts.read("bob")) == (b"k2", [sealed(b"a", 5)])
    assert opened.store.contacts("eve") == (b"", [])
    assert opened.do(lambda tx: tx.contacts.holders(b"a")) == ["ann", "bob"]


def test_the_key_goes_with_the_last_contact(opened: Opened) -> None:
    """Removed, expired or erased: then nothing that stands in a copy can be read by it."""
    for at, user_id in enumerate(("ann", "bob", "eve")):
        opened.do(put(user_id, b"k", sealed(b"a", expires=at * 10), sealed(b"b", expires=at * 10)))
    assert opened.do(lambda tx: [tx.contacts.remove("ann", name) for name in (b"a", b"c", b"b")]) == [True, False, True]
    assert opened.store.contacts("ann") == (b"", [])
    assert opened.do(lambda tx: tx.contacts.expire(9, 10)) == 0
    assert opened.do(lambda tx: tx.contacts.expire(20, 1)) == 1
    assert [len(opened.store.contacts("bob")[1]), opened.store.contacts("bob")[0]] == [1, b"k"]
    assert opened.do(lambda tx: tx.contacts.expire(10, 9)) == 1
    assert opened.store.contacts("bob") == (b"", [])
    assert opened.do(lambda tx: tx.contacts.erase("eve")) == 2
    assert opened.store.contacts("eve") == (b"", [])


def test_what_is_registered_is_read_in_its_normal_form(book: Book) -> None:
    """Once, however often; the id does not tell what it is."""
    first = book.register("ann", MAIL)
    again = book.register("ann", Email("ann.lee@EXAMPLE.com"))
    assert (first.new, again.new, first.contact_id) == (True, False, again.contact_id)
    book.register("ann", PHONE)
    assert book.of("ann") == [Email("ann.lee@example.com"), Phone("+4930901820")]
    assert first.contact_id == book.book.name(MAIL)


def test_an_address_may_be_of_several_and_a_device_is_of_one(book: Book) -> None:
    """Families share an address and hear that it is so; a device that changed hands leaves who had it before."""
    for shared in (MAIL, PHONE):
        assert book.register("ann", shared).others == 0
        assert book.register("bob", shared) == Registered(book.book.name(shared), True, 1, False)
    for held in (BROWSER, APP):
        book.register("eve", held)
        assert book.register("zoe", held) == Registered(book.book.name(held), True, 0, True)
    assert (book.of("eve"), book.of("zoe")) == ([], [BROWSER, APP])
    assert book.store.contacts("eve") == (b"", [])
    assert len(book.of("ann")) == len(book.of("bob")) == 2


def test_one_more_than_may_be_is_refused(book: Book) -> None:
    """Those there are can still be registered again, and one that expired leaves its room."""
    for contact in (MAIL, PHONE, APP):
        book.register("ann", contact)
    with pytest.raises(InvalidInput, match="has 3 contacts, may have 3 at most"):
        book.register("ann", BROWSER)
    assert not book.register("ann", MAIL).new
    book.clock.now += 10 * DAY
    assert book.register("ann", BROWSER).new
    assert book.of("ann") == [Email("Ann.Lee@example.com"), Phone("+4930901820"), BROWSER]


def test_what_gave_no_sign_of_life_expires(book: Book) -> None:
    """Devices and browsers after their days, or when the browser said; addresses never."""
    book.register("ann", MAIL)
    book.register("ann", APP)
    ends = WebPush(BROWSER.endpoint, POINT, AUTH, int((book.clock.now + 3 * DAY) * 1000))
    book.register("ann", ends)
    book.clock.now += 3 * DAY
    assert [type(contact) for contact in book.of("ann")] == [Email, Device]
    book.register("ann", APP)
    book.clock.now += 9 * DAY
    assert [type(contact) for contact in book.of("ann")] == [Email, Device]
    book.clock.now += DAY
    assert [type(contact) for contact in book.of("ann")] == [Email]
    book.register("bob", PHONE)
    assert len(book.store.contacts("ann")[1]) == 1


def test_what_expired_takes_no_room_before_it_is_removed(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many that expire together only some go with each registration: what nobody can see is in nobody's way."""
    monkeypatch.setattr(contacts, "SWEPT", 0)
    for number in range(3):
        book.register("ann", Device("fcm", "com.example.shop", f"token-of-device-{number}"))
    book.clock.now += 11 * DAY
    assert book.register("ann", APP).new
    assert book.of("ann") == [APP]


def test_a_browser_that_expired_is_refused(book: Book) -> None:
    """All faults at once, and nothing is kept."""
    gone = WebPush("http://push.example.com", POINT, AUTH, 1)
    with pytest.raises(InvalidInput) as caught:
        book.book.register("", gone)
    assert [field for field, _ in caught.value.violations] == ["user_id", "web_push.endpoint", "web_push.expire_time"]


def test_two_who_are_one_have_the_contacts_of_both(book: Book) -> None:
    """Once each, the newer registration standing; of too many the newest; the other's key is destroyed."""
    book.register("guest", MAIL)
    book.register("guest", BROWSER)
    book.register("ann", PHONE)
    book.clock.now += 1
    book.register("ann", MAIL)
    book.clock.now += 1
    book.register("guest", APP)
    joined = book.store.write(lambda tx: book.book.join(tx, "guest", "ann")).result(WAIT)
    assert joined == 3
    assert book.store.contacts("guest") == (b"", [])
    kept = book.book.read("ann")
    assert {known.contact for known in kept} == {Email("Ann.Lee@example.com"), Phone("+4930901820"), APP}
    assert book.store.write(lambda tx: book.book.join(tx, "guest", "ann")).result(WAIT) == 0
    assert book.book.read("ann") == kept


def test_no_file_shows_what_is_registered(book: Book, tmp_path: Path) -> None:
    """Neither in the clear nor by its key, while it is there and after it was erased."""
    for contact in (MAIL, BROWSER, APP):
        book.register("somebody", contact)
    key, stored = book.store.contacts("somebody")

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())

    for trace in (b"Lee", b"lee@", b"push.example.com", POINT.encode(), AUTH.encode(), b"token-of"):
        assert trace not in files()
    assert key in files()
    book.store.write(lambda tx: tx.contacts.erase("somebody")).result(WAIT)
    book.store.close()
    assert b"somebody" not in files()
    assert key not in files()
    assert all(contact.sealed not in files() for contact in stored)


def test_what_is_sealed_opens_for_its_own_user_and_place_alone() -> None:
    """Not when it was changed, moved to another user or contact, nor with another secret or key."""
    cipher = ContactCipher(SECRET)
    key = cipher.new_key("ann")
    content = cipher.seal(key, "ann", b"i" * 16, b"content")
    assert cipher.open(key, "ann", b"i" * 16, content) == b"content"
    assert cipher.seal(key, "ann", b"i" * 16, b"content") != content
    changed = content[:-1] + bytes([content[-1] ^ 1])
    attempts = (
        (cipher, key, "bob", b"i" * 16, content),
        (cipher, key, "ann", b"j" * 16, content),
        (cipher, key, "ann", b"i" * 16, changed),
        (cipher, key, "ann", b"i" * 16, b""),
        (cipher, cipher.new_key("ann"), "ann", b"i" * 16, content),
        (ContactCipher(b"t" * 32), key, "ann", b"i" * 16, content),
    )
    for opener, own, user_id, contact_id, given in attempts:
        with pytest.raises(StorageFailed, match="cannot be decrypted"):
            opener.open(own, user_id, contact_id, given)
    assert cipher.name("email a") == ContactCipher(SECRET).name("email a") != ContactCipher(b"t" * 32).name("email a")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ann",
        "ann@",
        "@example.com",
        "a b@example.com",
        "ann@localhost",
        "ann@host.test",
        "ann@[127.0.0.1]",
        "x" * 400 + "@example.com",
        "ann@example.com\r\nBcc: eve@example.com",
        "ann@exa\x00mple.com",
        "Ann <a@b.example>",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(given: str) -> None:
    """Nothing is asked of the network."""
    with pytest.raises(ValueError, match=r".") as caught:
        normal_address(given)
    assert len(given) < 4 or given not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "030901820",
        "+",
        "+999123456",
        "+1650253",
        "+4930901820;ext=3",
        "+49 30 9018 20 99 88 77 66 55",
        "+49x",
        "+" + "1" * 100_000,
    ],
)
def test_what_is_no_number_is_refused(given: str) -> None:
    """Of some country, and given out there."""
    with pytest.raises(ValueError, match=r"phone number|international form|extension"):
        normal_number(given)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without a release, which contacts do not need."""
    folder = tmp_path_factory.mktemp("contacts")
    (folder / "releases").mkdir()
    with start_server(folder / "releases", folder / "state", "--log-level", "debug") as running:
        yield running


async def test_a_user_is_reached_by_what_the_shop_registered(server: RunningServer) -> None:
    """Over the wire, sync and asyncio: shown masked, those registered last in front, and gone when removed."""
    ends = datetime.now(UTC) + timedelta(days=2)
    with tidings.Client(server.address) as client:
        mail = client.register_contact("ann", tidings.Email("Ann.Lee@Example.com"))
        assert mail == tidings.RegisteredContact(mail.contact_id, True, 0, False)
        client.register_contact("ann", tidings.WebPush(BROWSER.endpoint, POINT, AUTH, ends))
        async with aio.Client(server.address) as other:
            taken = await other.register_contact("bob", tidings.DeviceToken("fcm", "com.example.shop", "abcdefgh"))
            assert (await other.get_profile("bob")).contacts[0].masked == "fcm com.example.shop ***efgh"
            assert await other.remove_contact("bob", taken.contact_id)
            assert not await other.remove_contact("bob", tidings.DeviceToken("fcm", "com.example.shop", "abcdefgh"))
        shown = client.get_profile("ann").contacts
        assert [known.masked for known in shown] == ["push.example.com/***", "A***@example.com"]
        assert [known.channel for known in shown] == [tidings.ContactChannel.WEB_PUSH, tidings.ContactChannel.EMAIL]
        assert shown[0].expire_time is not None
        assert abs(shown[0].expire_time - ends) < timedelta(milliseconds=2)
        assert client.remove_contact("ann", tidings.Email("ann.lee@example.com"))
        assert len(client.get_profile("ann").contacts) == 1
        with pytest.raises(tidings.NotFound):
            client.get_profile("bob")


def test_what_is_wrong_is_told_by_field_and_stands_in_no_log(server: RunningServer) -> None:
    """All faults at once; neither error nor log repeats the contact."""
    secret = "very-secret-name"
    with tidings.Client(server.address) as client:
        for contact, wrong in (
            (tidings.Email(f"{secret}@nowhere"), ["email"]),
            (tidings.Phone(f"+49{secret}"), ["phone"]),
            (
                tidings.WebPush(f"http://{secret}.example", "", ""),
                [f"web_push.{n}" for n in ("endpoint", "p256dh", "auth")],
            ),
            (tidings.DeviceToken("apns", "", secret), ["device.app_id", "device.token"]),
        ):
            with pytest.raises(tidings.errors.InvalidArgument) as caught:
                client.register_contact("ann\x00", contact)
            assert [field for field, _ in caught.value.fields] == ["user_id", *wrong]
            assert secret not in str(caught.value)
        client.register_contact("logged", tidings.Email(f"{secret}@example.com"))
        with pytest.raises(tidings.errors.InvalidArgument, match="32 hexadecimal digits"):
            client.remove_contact("ann", "nonsense")
    assert secret not in server.log.read_text()


def test_the_command_adds_lists_and_removes(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text and as JSON."""
    subscription = {
        "endpoint": BROWSER.endpoint + "/2",
        "expirationTime": None,
        "keys": {"p256dh": POINT, "auth": AUTH},
    }
    (tmp_path / "browser.json").write_text(json.dumps(subscription))

    def run(*words: str) -> tuple[int, str]:
        status = main(["--server", server.address, "contacts", *words])
        return status, capsys.readouterr().out.strip()

    assert run("list", "eve") == (0, "no contacts")
    status, said = run("add", "eve", "--phone", "+4930901820")
    assert (status, said.split()[1]) == (0, "new")
    assert run("add", "eve", "--web-push", str(tmp_path / "browser.json"))[0] == 0
    status, listed = run("list", "eve")
    assert ("+49***20" in listed, "push.example.com/***  until" in listed) == (True, True)
    contact_id = said.split()[0]
    assert run("remove", "eve", contact_id) == (0, "removed")
    assert run("remove", "eve", contact_id) == (1, "the user has no such contact")
    assert json.loads(run("--json", "add", "eve", "--apns", "ab" * 32, "--app", "com.example.shop")[1])["new"] is True
    with pytest.raises(SystemExit):
        run("add", "eve", "--fcm", "abc")
    assert run("add", "eve", "--web-push", str(tmp_path / "none"))[0] == 1


def test_contacts_outlive_the_server(shop: Shop, tmp_path: Path) -> None:
    """They are on disk, and the key file opens them."""
    for turn in range(2):
        with start_server(shop.path, tmp_path / "state") as server, tidings.Client(server.address) as client:
            assert client.register_contact("ann", tidings.Phone("+4930901820")).new == (turn == 0)
            assert client.get_profile("ann").contacts[0].masked == "+49***20"

"""Who may be part of an export, a training set or a count: by what people say now, and by what holds for the others."""

from dataclasses import replace

from tidings_core.preferences import PURPOSES, Preferences, Word
from tidings_core.privacy import PrivacyRules
from tidings_core.profile import EMPTY
from tidings_core.stored import Document
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.may_use import who_may


def stored(**consent: bool) -> Document:
    """The document of somebody who said so."""
    words = {f"consent/{purpose}": Word(1, 1, said) for purpose, said in consent.items()}
    return Document(1, write_document(UserDocument(profile=replace(EMPTY, preferences=Preferences(words)))))


PEOPLE = {
    "silent": stored(),
    "willing": stored(profiling=True, training=True),
    "untrained": stored(training=False),
    "private": stored(profiling=False, training=True),
    "damaged": Document(1, b"nothing of this kind"),
}
EVERYBODY = [*PEOPLE, "unheard-of", "erased"]


def test_an_export_has_those_who_let_it() -> None:
    """It needs both purposes; who was erased and who cannot be read is in none."""
    may = who_may("export", EVERYBODY, lambda _: PEOPLE, PrivacyRules(), 0, {"erased"})
    assert may == {"silent", "willing", "unheard-of"}
    assert who_may("trending", EVERYBODY, lambda _: PEOPLE, PrivacyRules(), 0, {"erased"}) == may | {"untrained"}


def test_where_people_must_opt_in_only_those_are_there_who_did() -> None:
    """Silence is no consent when the settings say so."""
    rules = PrivacyRules(consent=dict.fromkeys(PURPOSES, False))
    assert who_may("training", EVERYBODY, lambda _: PEOPLE, rules, 0, {"erased"}) == {"willing"}

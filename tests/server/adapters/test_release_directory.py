"""The releases directory opens what is in it and lets no name lead out of it."""

from pathlib import Path

import pytest

from tests.server.conftest import Shop
from tidings_core.errors import InvalidInput, NotFound, ReleaseRefused
from tidings_core.release import Manifest
from tidings_server.adapters.release_directory import ReleaseDirectory


def test_releases_are_listed_newest_first(shop: Shop, directory: ReleaseDirectory) -> None:
    """The list is in the order of building, backwards."""
    assert [found.release_id for found in directory.list()] == [shop.c, shop.b, shop.a]


def test_a_broken_release_is_listed_with_its_problem(shop: Shop, directory: ReleaseDirectory) -> None:
    """One broken release hides no other."""
    (shop.path / shop.b / "manifest.json").unlink()
    kinds = [type(found) for found in directory.list()]
    assert kinds == [Manifest, ReleaseRefused, Manifest]


def test_an_opened_release_can_answer(shop: Shop, directory: ReleaseDirectory) -> None:
    """Opening gives the release that was named."""
    assert directory.open(shop.a).manifest.release_id == shop.a


@pytest.mark.parametrize("name", ["", "../releases", "..", "a/b", ".hidden", "x" * 129, "new\nline", "nul\0"])
def test_no_name_leads_out_of_the_directory(directory: ReleaseDirectory, name: str) -> None:
    """A name that no release can have is refused before any file is touched."""
    with pytest.raises(InvalidInput, match="release_id"):
        directory.open(name)


def test_a_release_that_is_not_there_is_not_found(directory: ReleaseDirectory) -> None:
    """The name is said back."""
    with pytest.raises(NotFound, match="20000101T000000Z-none"):
        directory.open("20000101T000000Z-none")


def test_a_file_that_cannot_be_read_refuses_the_release(shop: Shop, directory: ReleaseDirectory) -> None:
    """An I/O error is a reason like any other, with the file's name."""
    manifest = shop.path / shop.a / "manifest.json"
    manifest.unlink()
    manifest.symlink_to(manifest)
    with pytest.raises(ReleaseRefused, match=r"manifest\.json"):
        directory.open(shop.a)


def test_a_missing_directory_is_refused_at_start(tmp_path: Path) -> None:
    """The server says which directory it misses."""
    with pytest.raises(InvalidInput, match="there is no directory"):
        ReleaseDirectory(tmp_path / "nowhere")

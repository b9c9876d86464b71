"""Controls while the server runs: put on releases, taken from a file that changes, never half."""

import dataclasses
import os
from pathlib import Path

import pytest

from tests.support.world import make_world
from tidings_core.controls import Boost, Control, Keep, Pin
from tidings_core.errors import InvalidInput
from tidings_core.filters import Filter, Is
from tidings_core.model import SERVING_CONFIGS
from tidings_core.release import Release
from tidings_server.application.live_controls import LiveControls
from tidings_server.control_settings import read_controls
from tidings_server.controls_watcher import ControlsWatcher

PIN = Control("pin", Pin(("item-3",)))
SALE = Control("sale", Keep(Filter(must=(Is("on_sale", True),))))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release in memory with the manifest of one on disk."""
    world = make_world()
    return Release(world.write(tmp_path_factory.mktemp("releases")), Path("nowhere"), world.snapshot())


def test_a_release_is_dressed_with_the_controls_that_fit_it(release: Release) -> None:
    """A control on an attribute it lacks is out of force and counted; the others work; the release is not changed."""
    live = LiveControls((PIN, SALE))
    assert live.dress(release).snapshot.controls == (PIN,)
    assert (live.fit, live.unfit) == (1, 1)
    assert not release.snapshot.controls
    assert dataclasses.replace(live.dress(release).snapshot, controls=()) == release.snapshot


def test_taking_other_controls_dresses_the_serving_release_again(release: Release) -> None:
    """What was put on it before is gone."""
    live = LiveControls((PIN,))
    serving = [live.dress(release)]

    def again() -> None:
        serving[0] = live.dress(serving[0])

    other = Control("other", Boost(Filter(must=()), 3), priority=3)
    live.take((other,), again)
    assert not serving[0].snapshot.controls  # A filter of nothing fits nowhere.
    live.take((PIN,), again)
    assert serving[0].snapshot.controls == (PIN,)


class Files:
    """A file of controls, and a watcher of it that is told when to look."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "controls.toml"
        self.taken: list[tuple[Control, ...]] = []
        self._tick = 1_000_000_000
        self.write("")
        self.watcher = ControlsWatcher(self.path, lambda path: read_controls(path, SERVING_CONFIGS), self.taken.append)

    def write(self, text: str) -> None:
        """Write the file, as an editor does: another file in its place, of another time."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        self._tick += 1_000_000_000
        os.utime(fresh, ns=(self._tick, self._tick))
        os.replace(fresh, self.path)


GOOD = '[control.a]\nkind = "pin"\nitem_ids = ["item-3"]\n'


def test_a_changed_file_is_taken_once(tmp_path: Path) -> None:
    """At the next look, and not again while it stays."""
    files = Files(tmp_path)
    assert not files.watcher.look()
    files.write(GOOD)
    assert files.watcher.look()
    assert not files.watcher.look()
    assert [[one.name for one in taken] for taken in files.taken] == [["a"]]


def test_a_file_with_a_fault_leaves_the_old_controls_in_force(tmp_path: Path) -> None:
    """Nothing of it is taken, not even what is fine, until it is mended; meanwhile it counts as refused."""
    files = Files(tmp_path)
    files.write(GOOD + '[control.b]\nkind = "pin"\n')
    assert files.watcher.look()
    assert (files.taken, files.watcher.refused) == ([], True)
    files.path.unlink()
    assert files.watcher.look()
    assert (files.taken, files.watcher.refused) == ([], True)
    files.write(GOOD)
    assert files.watcher.look()
    assert (len(files.taken), files.watcher.refused) == (1, False)


def test_without_a_file_there_is_nothing_to_watch() -> None:
    """No thread, no look."""
    watcher = ControlsWatcher(None, lambda _: (), lambda _: None)
    watcher.start()
    assert not watcher.look()
    watcher.close()


def test_a_file_that_cannot_be_read_at_the_start_is_an_error_of_its_own(tmp_path: Path) -> None:
    """The server does not start with rules it cannot read."""
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_controls(tmp_path, SERVING_CONFIGS)

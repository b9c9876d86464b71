"""The state directory keeps small files through crashes, for one server at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tidings_core.errors import Conflict, InUse, InvalidInput
from tidings_server.adapters.state_directory import StateDirectory


def test_what_was_written_is_read_by_the_next_server(tmp_path: Path) -> None:
    """A file written by one server is there for the one after it."""
    first = StateDirectory.open(tmp_path / "state")
    first.write("serving.json", b"one")
    first.write("serving.json", b"two")
    first.close()
    assert StateDirectory.open(tmp_path / "state").read("serving.json") == b"two"


def test_a_file_never_written_reads_as_none(state: StateDirectory) -> None:
    """Absence is not an error."""
    assert state.read("serving.json") is None


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    """A directory in use is refused to another process, with the number of the one that has it."""
    held = StateDirectory.open(tmp_path / "state")
    program = (
        "import sys; from pathlib import Path; from tidings_core.errors import InUse\n"
        "from tidings_server.adapters.state_directory import StateDirectory\n"
        "try: StateDirectory.open(Path(sys.argv[1]))\n"
        "except InUse as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state")], capture_output=True, text=True, check=True
    )
    assert "in use by another server" in said.stdout
    assert f"process {os.getpid()}" in said.stdout
    held.close()


def test_a_closed_directory_can_be_taken_again(tmp_path: Path) -> None:
    """Closing lets go of the lock."""
    StateDirectory.open(tmp_path / "state").close()
    StateDirectory.open(tmp_path / "state").close()


def test_a_held_directory_is_refused_in_the_same_process_too(tmp_path: Path) -> None:
    """The lock belongs to the opening, not to the process."""
    held = StateDirectory.open(tmp_path / "state")
    with pytest.raises(InUse):
        StateDirectory.open(tmp_path / "state")
    held.close()


def test_the_key_is_made_once_and_is_nobody_elses_business(tmp_path: Path) -> None:
    """32 bytes, the same after a restart, readable by the owner alone."""
    first = StateDirectory.open(tmp_path / "state")
    first.close()
    again = StateDirectory.open(tmp_path / "state")
    assert len(first.key) == 32
    assert again.key == first.key
    assert stat.S_IMODE((tmp_path / "state" / "key").stat().st_mode) == 0o600


def test_two_directories_have_two_keys(tmp_path: Path) -> None:
    """The key is random."""
    assert StateDirectory.open(tmp_path / "one").key != StateDirectory.open(tmp_path / "two").key


def test_a_damaged_or_open_key_is_refused(tmp_path: Path) -> None:
    """A key that was cut short, or that others may read, is named with the way out."""
    StateDirectory.open(tmp_path / "state").close()
    key = tmp_path / "state" / "key"
    key.chmod(0o644)
    with pytest.raises(InvalidInput, match="mode to 0600"):
        StateDirectory.open(tmp_path / "state")
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(InvalidInput, match="has 5 bytes, must have 32"):
        StateDirectory.open(tmp_path / "state")


def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    """A file where the directory should be, or where its parent should be, is a clear error."""
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(InvalidInput, match=r"state: .*file.* cannot be used"):
            StateDirectory.open(path)


def test_a_write_that_fails_leaves_the_old_content(state: StateDirectory, tmp_path: Path) -> None:
    """A file is replaced whole or not at all."""
    state.write("serving.json", b"old")
    (tmp_path / "state" / "serving.json.unfinished").mkdir()
    with pytest.raises(Conflict, match=r"cannot be written: .* nothing was changed"):
        state.write("serving.json", b"new")
    assert state.read("serving.json") == b"old"


def test_what_a_dead_writer_left_is_swept(tmp_path: Path) -> None:
    """A half-written file is never read and is gone after the next start."""
    StateDirectory.open(tmp_path / "state").close()
    (tmp_path / "state" / "serving.json.unfinished").write_bytes(b"hal")
    again = StateDirectory.open(tmp_path / "state")
    assert again.read("serving.json") is None
    assert not (tmp_path / "state" / "serving.json.unfinished").exists()


def test_nothing_is_written_after_the_directory_was_let_go_of(tmp_path: Path) -> None:
    """A promotion that outlives its server cannot write where the next server already does."""
    state = StateDirectory.open(tmp_path / "state")
    state.write("serving.json", b"old")
    state.close()
    with pytest.raises(Conflict, match="stopping"):
        state.write("serving.json", b"new")
    assert (tmp_path / "state" / "serving.json").read_bytes() == b"old"

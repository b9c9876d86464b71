"""What the tests of deciding start from: a release that answers, and a house over it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.server.conftest import Clock, Shop
from tests.server.deciding.house import Around, House, Logged, Open, Setting, open_house
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store


@pytest.fixture(autouse=True)
def logged() -> Iterator[Logged]:
    """What was logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def answering(serving: Serving, directory: ReleaseDirectory, shop: Shop) -> Serving:
    """A release that answers."""
    serving.swap(directory.open(shop.a), serving.record.promoted(shop.a, 1.0))
    return serving


@pytest.fixture
def opened(tmp_path: Path, answering: Serving, clock: Clock) -> Open:
    """Opens the house of this test, again and again if need be."""
    (tmp_path / "store").mkdir()

    def open_it(**chosen: Any) -> AbstractContextManager[House]:
        return open_house(tmp_path / "store", answering, clock, Setting(**chosen))

    return open_it


@pytest.fixture
def house(opened: Open) -> Iterator[House]:
    """A house with three triggers."""
    with opened() as house:
        yield house


@pytest.fixture
def around() -> list[Around]:
    """What `wrap` put around the stores of this test."""
    return []


@pytest.fixture
def wrap(around: list[Around]) -> Callable[[Store], Any]:
    """Puts something around a store."""

    def put(store: Store) -> Any:
        around.append(Around(store))
        return around[-1]

    return put

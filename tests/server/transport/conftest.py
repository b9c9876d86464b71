"""The fronts."""

import pytest

from tidings_server.transport.front import MakeFront, find_front


@pytest.fixture
def make_front(front: str) -> MakeFront:
    """Each front in turn."""
    return find_front(front)

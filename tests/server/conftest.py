"""Releases on disk that the server's tests share, and the real parts a server is built from."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.server.storing import ADAPTERS, Opened
from tests.support.world import BY_VECTOR, NOW, linear_ranker, make_world
from tidings_core.features import USER_FEATURES
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.serving import Serving


@dataclass(frozen=True)
class Shop:
    """A releases directory with three releases, a, b and c, built one after the other."""

    path: Path
    a: str
    b: str
    c: str


@pytest.fixture(scope="session", params=["grpcio", "native"])
def front(request: pytest.FixtureRequest) -> str:
    """The name of each front in turn: what is promised of one is promised of both."""
    if request.param == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    return str(request.param)


@pytest.fixture(scope="session")
def built_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The releases every test of the server starts from; for reading only."""
    path = tmp_path_factory.mktemp("built") / "releases"
    names = [make_world(seed=seed).write(path, NOW + seed).release_id for seed in range(3)]
    return Shop(path, *names)


@pytest.fixture
def shop(built_shop: Shop, tmp_path: Path) -> Shop:
    """A copy of the releases that a test may spoil."""
    shutil.copytree(built_shop.path, tmp_path / "releases")
    return Shop(tmp_path / "releases", built_shop.a, built_shop.b, built_shop.c)


@dataclass
class Clock:
    """A clock that stands still until told otherwise."""

    now: float = NOW + 1000.0

    def __call__(self) -> float:
        """Say the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def directory(shop: Shop) -> ReleaseDirectory:
    """The copied releases directory."""
    return ReleaseDirectory(shop.path)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A fresh state directory."""
    return StateDirectory.open(tmp_path / "state")


@pytest.fixture
def serving(state: StateDirectory) -> Serving:
    """What serves: nothing yet."""
    return Serving(state)


@pytest.fixture(params=ADAPTERS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """A new store of each adapter."""
    opened = Opened(ADAPTERS[request.param], tmp_path)
    yield opened
    opened.adapter.close()


def picky_ranker() -> bytes:
    """A ranker that is fine on a release's golden queries and gives NaN for users who bought long ago.

    It adds 0 * sqrt(5 - log_days_since_last); golden users have at most 4 there, a user of years ago has 6.6.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(linear_ranker({}, {}, BY_VECTOR))
    at = USER_FEATURES.index("log_days_since_last")
    constants: dict[str, NDArray[Any]] = {
        "at": np.array([at], np.int64),
        "five": np.array(5.0, np.float32),
        "nothing": np.array(0.0, np.float32),
    }
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["user_features", "at"], ["days"], axis=1),
            helper.make_node("Sub", ["five", "days"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Mul", ["root", "nothing"], ["trap"]),
            helper.make_node("Add", ["plain", "trap"], ["score"]),
        ]
    )
    return bytes(model.SerializeToString())

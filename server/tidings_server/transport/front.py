"""What a front is, and which one a setting names."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from tidings_core.errors import InvalidInput
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Lane, Method, Stream, Upload
from tidings_server.transport.front_grpcio import MAX_PENDING, GrpcioFront


class Front(Protocol):
    """A gRPC server for Methods and Streams, with health and reflection, that lives on the event loop it is made on."""

    def bind(self, address: Address) -> Address:
        """Take the address without answering yet, and return it with its real port. Raises InUse or InvalidInput."""
        ...

    async def start(self) -> None:
        """Answer."""
        ...

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether a release answers."""
        ...

    async def drain(self, seconds: float) -> None:
        """Fail health checks, refuse new calls, let those under way end within `seconds`, then cut off what is left."""
        ...


class MakeFront(Protocol):
    """A kind of front."""

    def __call__(
        self,
        methods: Sequence[Method],
        batchers: Mapping[Lane, Batcher],
        metrics: Metrics,
        max_message_bytes: int,
        streams: Sequence[Stream] = (),
        uploads: Sequence[Upload] = (),
    ) -> Front:
        """Take the methods, the batcher that runs each lane, the streams, and the streams that callers send."""
        ...


def find_front(name: str, max_pending: int = MAX_PENDING) -> MakeFront:
    """The front of a name in the settings, `max_pending` being for grpcio.

    Raises InvalidInput when it needs a library that is not installed.
    """
    if name == "native":
        try:
            from tidings_server.transport.front_native import NativeFront
        except ModuleNotFoundError as error:
            if error.name != "pygrpc_native":
                raise
            needed = 'is native, which needs more than [server]: pip install "tidings[server,native]", or take grpcio'
            raise InvalidInput(("front", needed)) from error
        return NativeFront
    return partial(GrpcioFront, max_pending=max_pending)

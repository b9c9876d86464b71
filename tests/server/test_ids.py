"""Ids with control characters: refused by name wherever an id is taken, before anything is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings.v1 import (
    catalog_service_pb2,
    event_pb2,
    event_service_pb2,
    profile_service_pb2,
    push_service_pb2,
    recommendation_service_pb2,
    release_service_pb2,
)

SERVICES = (
    recommendation_service_pb2,
    event_service_pb2,
    profile_service_pb2,
    catalog_service_pb2,
    push_service_pb2,
    release_service_pb2,
)
BAD = "a\x00b\x9f"
IN_ANSWERS = ("RecordEvents", "ImportEvents")
"""Calls that answer what is wrong with each event, in place of refusing all of them."""


@dataclass(frozen=True)
class Place:
    """A field of a request that holds an id, or ids, and the way to it."""

    method: MethodDescriptor
    path: tuple[FieldDescriptor, ...]

    @property
    def name(self) -> str:
        """As a test is named."""
        return f"{self.method.name}:{'.'.join(field.name for field in self.path)}"

    def request(self) -> Any:
        """A request with nothing in it but a bad id, and what lies around an event."""
        request: Any = message_factory.GetMessageClass(self.method.input_type)()
        if self.method.name == "ImportEvents" and len(self.path) > 1:
            request.import_id = self.name
        at = request
        for field in self.path[:-1]:
            at = getattr(at, field.name).add() if field.is_repeated else getattr(at, field.name)
            if isinstance(at, event_pb2.Event):
                at.type = event_pb2.EVENT_TYPE_VIEW
                at.event_time.seconds = 1_700_000_000
        last = self.path[-1]
        if last.is_repeated:
            getattr(at, last.name).append(BAD)
        else:
            setattr(at, last.name, BAD)
        return request


def _ours(kind: Descriptor) -> bool:
    return bool(kind.full_name.startswith("tidings.")) and not kind.GetOptions().map_entry


def ids_in(
    kind: Descriptor, path: tuple[FieldDescriptor, ...] = (), seen: tuple[str, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field of a message, and of those in it, that holds an id."""
    for field in kind.fields:
        inner = field.message_type
        if field.type == FieldDescriptor.TYPE_STRING and field.name.endswith(("_id", "_ids")):
            yield (*path, field)
        elif inner is not None and _ours(inner) and inner.full_name not in seen:
            yield from ids_in(inner, (*path, field), (*seen, inner.full_name))


PLACES = [
    Place(method, path)
    for module in SERVICES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    for path in ids_in(method.input_type)
    # What only the log has is refused as a whole.
    if "change" not in {field.name for field in path}
]


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server; nothing is recorded."""
    with start_server(built_shop.path, tmp_path_factory.mktemp("ids") / "state") as running:
        yield running


def said(server: RunningServer, place: Place) -> str:
    """What a server says to a request: the violations of a refusal, or the answer."""
    method, request = place.method, place.request()
    name = f"/{method.containing_service.full_name}/{method.name}"
    kind = message_factory.GetMessageClass(method.output_type)
    with grpc.insecure_channel(server.address) as channel:
        ask: Any = getattr(channel, _shape(method))(name, type(request).SerializeToString, kind.FromString)
        refused: Any = None
        try:
            answer = ask(iter([request]) if method.client_streaming else request, timeout=20)
            return repr(next(answer) if method.server_streaming else answer)
        except grpc.RpcError as error:
            refused = error
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.details()
    return "\n".join(_violations(refused.trailing_metadata()))


def _shape(method: MethodDescriptor) -> str:
    return f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"


def _violations(trailing: Sequence[Any]) -> Iterator[str]:
    (found,) = [value for key, value in trailing if key == "grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(found).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            yield from (f"{one.field}: {one.description}" for one in bad.field_violations)


def test_there_are_many_places() -> None:
    """The walk over the messages finds them, nested ones and lists too."""
    names = {place.name for place in PLACES}
    assert len(names) > 40
    assert {"Recommend:examples.liked_item_ids", "UpsertItems:items.item.item_id", "GetProfile:user_id"} <= names


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_an_id_with_a_control_character_is_refused_by_name(server: RunningServer, place: Place) -> None:
    """Together with whatever else is wrong with the request."""
    told, last = said(server, place), place.path[-1].name
    assert "control character" in told or "must be 1 to 128 letters" in told, told
    if place.method.name not in IN_ANSWERS:
        assert any(last in line.partition(":")[0] for line in told.splitlines()), told

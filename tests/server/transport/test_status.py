"""Every error has its gRPC status, and the status says what a program needs."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tidings_core import errors
from tidings_server.transport import status


def tree(root: type[errors.TidingsError]) -> Iterator[type[errors.TidingsError]]:
    """A class and all below it."""
    yield root
    for below in root.__subclasses__():
        yield from tree(below)


def test_every_error_has_a_row() -> None:
    """A new error without a status code does not pass."""
    ours = {error for error in tree(errors.TidingsError) if error.__module__ == "tidings_core.errors"}
    assert set(status.CODES) == ours


def details(error: errors.TidingsError) -> status_pb2.Status:
    """The decoded status of an error."""
    return status_pb2.Status.FromString(status.details_of(error))


def unpack(found: status_pb2.Status, kind: type) -> list:  # type: ignore[type-arg]
    """The details of one kind."""
    out = []
    for packed in found.details:
        message = kind()
        if packed.Unpack(message):
            out.append(message)
    return out


def test_an_error_carries_its_reason_and_our_domain() -> None:
    """ErrorInfo is what programs go by."""
    found = details(errors.ReleaseRefused("r1", "index.faiss is missing"))
    assert found.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert found.message == "release r1: index.faiss is missing"
    (info,) = unpack(found, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("RELEASE_REFUSED", "tidings")


def test_invalid_input_names_each_field() -> None:
    """BadRequest holds every violation."""
    (bad,) = unpack(details(errors.InvalidInput(("k", "is 0"), ("user_id", "is empty"))), error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("k", "is 0"), ("user_id", "is empty")]


def test_overload_says_when_to_come_back() -> None:
    """RetryInfo holds the delay; so it does when the server stops."""
    for error in (errors.Overloaded("full", 0.25), errors.Stopping("soon", 0.25)):
        (retry,) = unpack(details(error), error_details_pb2.RetryInfo)
        assert retry.retry_delay.ToMilliseconds() == 250


@pytest.mark.parametrize("text", ["x" * 100_000, "界" * 100_000])
def test_no_message_outgrows_a_header(text: str) -> None:
    """However long the problem, its status stays a few kilobytes."""
    error = errors.ReleaseRefused("r", text)
    assert len(status.details_of(error)) < 4000
    assert len(status.message_of(error)) <= status.MAX_TEXT

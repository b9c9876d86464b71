"""A client in another language, made of the published .proto files alone."""

import grpc
import pytest

import tidings
from tests.client.service import bad_request, small_server, violation
from tests.node.conftest import RunNode


def test_node_reads_an_answer_with_the_proto_files_alone(recommend_from_node: RunNode) -> None:
    """Node, given the folder of the .proto files and an address, gets the answer that Python gets."""
    with small_server() as server:
        status, answer = recommend_from_node(tidings.proto_dir(), server.address, "stranger", "2")
        with tidings.Client(server.address, timeout=20.0) as client:
            expected = client.recommend("stranger", k=2)
    assert status == 0
    assert server.calls[0].request == server.calls[1].request
    assert [item["item"]["item_id"] for item in answer["items"]] == [item.item.item_id for item in expected.items]
    assert [item["item"]["title"] for item in answer["items"]] == [item.item.title for item in expected.items]
    assert [item["score"] for item in answer["items"]] == [item.score for item in expected.items]
    assert answer["items"][0]["item"]["price"] == pytest.approx(2.55)
    assert "price" not in answer["items"][1]["item"]
    assert answer["items"][0]["reasons"][0] == {"code": "REASON_CODE_SIMILAR_TO_BOUGHT", "item_id": "22423"}
    assert answer["degraded"][0]["cause"] == "DEGRADATION_CAUSE_UNKNOWN_USER"
    assert answer["release_id"] == expected.release_id


def test_node_reads_an_error(recommend_from_node: RunNode) -> None:
    """A refused request reaches Node with its code and message."""
    with small_server() as server:
        server.steps.append(bad_request(violation("user_id", "is empty")))
        status, error = recommend_from_node(tidings.proto_dir(), server.address, "")
    assert (status, error) == (1, {"code": grpc.StatusCode.INVALID_ARGUMENT.name, "message": "1 fields are refused"})

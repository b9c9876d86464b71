"""Who is let in: bursts are, queues that stay are not, and nobody waits past a deadline."""

from tidings_server.transport.admission import LEARNED_FROM, PATIENCE, Admission

NEVER = 1e9


def learned(admission: Admission, seconds: float, method: str = "A") -> Admission:
    """An admission that knows what calls of a method take."""
    for _ in range(LEARNED_FROM):
        admission.learn(method, 4, 4 * seconds)
    return admission


def test_there_is_room_for_so_many_and_no_more() -> None:
    """Whatever else: a queue is bounded."""
    admission = Admission(1, 10, 10)
    assert admission.refusal(9, 0.0) is None
    refused = admission.refusal(10, 0.0)
    assert refused is not None
    assert "10 calls are waiting" in str(refused)
    assert refused.retry_after > 0


def test_a_burst_is_let_in_for_a_moment() -> None:
    """More than `standing` may wait; when they still do after PATIENCE, no more come in."""
    admission = Admission(1, 1000, 20)
    assert admission.refusal(500, 7.0) is None
    assert admission.refusal(500, 7.0 + PATIENCE) is None
    assert admission.refusal(500, 7.001 + PATIENCE) is not None


def test_a_queue_that_stays_is_not_another_burst_whenever_a_batch_is_taken_from_it() -> None:
    """Below `standing` calls are let in, up to there; only when most of the queue is gone is there room for a burst."""
    admission = Admission(1, 1000, 20)
    assert admission.refusal(20, 0.0) is None
    for waiting, may in ((20, False), (12, True), (20, False), (6, True), (21, False), (5, True), (21, True)):
        assert (admission.refusal(waiting, 10.0) is None) == may


def test_in_a_burst_nobody_waits_longer_than_a_moment() -> None:
    """As far as is known what calls take: two threads share what is ahead."""
    admission = learned(Admission(2, 1000, 20), 0.01)
    let_in = 0
    while admission.refusal(20 + let_in, 0.0) is None:
        admission.admit("A")
        let_in += 1
    assert let_in in (20, 21)


def test_a_call_that_would_wait_past_its_deadline_is_refused() -> None:
    """By what waits before it and is worked on, each as long as its method took lately; what is done is let go of."""
    admission = learned(learned(Admission(1, 1000, 1000), 0.010), 0.5, "slow")
    costs = [admission.admit("A") for _ in range(9)] + [admission.admit("slow")]
    assert sum(costs) > 0.5
    assert admission.late(10, 100.0, 100.5) is not None
    assert admission.late(10, 100.0, 100.7) is None
    admission.done(costs.pop())
    assert admission.late(9, 100.0, 100.05) is not None
    assert admission.late(9, 100.0, 100.1) is None
    for cost in costs:
        admission.done(cost)
    assert admission.late(1, 100.0, 100.0) is None


def test_who_comes_to_an_idle_lane_is_let_in_whatever_the_deadline() -> None:
    """There is nothing to wait for: the stages of the answer see to the rest."""
    admission = learned(Admission(1, 10, 10), 1.0)
    admission.admit("A")
    assert admission.late(0, 5.0, 5.001) is None


def test_nobody_is_refused_by_the_first_slow_calls_of_a_server_or_by_one_slow_moment() -> None:
    """The median of the last batches counts, when there are enough of them."""
    admission = Admission(1, 1000, 1000)
    for _ in range(LEARNED_FROM - 1):
        admission.learn("A", 1, 60.0)
    assert admission.admit("A") == 0.0
    learned(admission, 0.001)
    admission.learn("A", 1, 60.0)
    assert 0.0009 < admission.admit("A") < 0.0011

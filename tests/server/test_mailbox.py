"""What other threads post comes to the event loop: all of it, in order, whatever fails between."""

import asyncio
import threading

from tidings_server.application.mailbox import AT_ONCE, Mailbox

THREADS, EACH = 4, 20 * AT_ONCE


async def test_all_that_many_threads_post_is_done_in_the_order_of_each() -> None:
    """While the loop works on what was posted, more is; nothing is forgotten when it falls asleep between."""
    mailbox, done, all_done = Mailbox(), list[tuple[int, int]](), asyncio.Event()

    def note(thread: int, number: int) -> None:
        done.append((thread, number))
        if len(done) == THREADS * EACH:
            all_done.set()

    def post(thread: int) -> None:
        for number in range(EACH):
            assert mailbox.post(note, thread, number)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        await all_done.wait()
    for number in range(THREADS):
        assert [at for thread, at in done if thread == number] == list(range(EACH))


async def test_one_that_fails_holds_up_no_other() -> None:
    """Its fault is logged; those behind it are done."""
    mailbox, done = Mailbox(), asyncio.Event()
    mailbox.post([].remove, "what is not there")
    mailbox.post(done.set)
    async with asyncio.timeout(30):
        await done.wait()


async def test_a_loop_that_has_stopped_is_told_nothing() -> None:
    """A thread that posts after the end is told so, and goes on."""

    async def make() -> Mailbox:
        return Mailbox()

    mailbox = await asyncio.to_thread(asyncio.run, make())
    assert not mailbox.post(print)

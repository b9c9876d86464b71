"""The blocking subscription: `Stream` driven by one thread that reads and one that acknowledges; the caller's iterates.

The caller's thread makes no call that others depend on: Ctrl-C is raised in it wherever it is, and inside gRPC that
leaves a channel which never closes.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from tidings import errors, model, wire
from tidings.stream import Stream


class Subscription:
    """The pushes of one user, as an iterator that lasts until it is closed; made by `Client.subscribe`.

        with client.subscribe("u42", device_id="phone") as pushes:
            for push in pushes:
                show(push)

    Asking for the next push acknowledges the one before. A push that was yielded and not followed by a request for
    the next one (an error, a `break`) comes again to the next subscription of this device, unless `acknowledge` was
    called. It connects, and connects again, by itself for as long as that can help, in a thread of its own; an error
    that would stay is raised to whoever iterates. `close` ends it from any thread. One thread at a time may iterate.

    The logger "tidings" says when a connection was lost.
    """

    def __init__(
        self,
        stub: Any,
        stream: Stream,
        address: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = stub
        self._address = address
        self._timeout = timeout
        self._clock = clock
        # Guards all below. Entered itself, not by its condition, whose __enter__ is Python: Ctrl-C at its end would
        # leave the lock held.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._stream = stream
        self._threads: list[threading.Thread] = []
        self._call: Any = None
        self._error: Exception | None = None
        self._closed = False

    @property
    def gaps(self) -> int:
        """How often the server said that it lost a part of this user's stream, so that pushes may have been missed."""
        with self._lock:
            return self._stream.gaps

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> model.Push:
        """Acknowledge the push before, then wait for the next one."""
        with self._lock:
            self._stream.finish()
            self._start()
            self._changed.notify_all()
            while True:
                if self._closed:
                    raise StopIteration
                if self._error is not None:
                    raise self._error
                push = self._stream.take()
                if push is not None:
                    return push
                now = self._clock()
                if self._stream.silent(now):
                    self._call.cancel()
                self._changed.wait(min(self._stream.silent_at - now, threading.TIMEOUT_MAX))

    def acknowledge(self) -> None:
        """Acknowledge the push that was yielded last without asking for the next, as before a `break`."""
        with self._lock:
            self._stream.finish()
            self._changed.notify_all()

    def report(self, push: model.Push, disposition: model.Disposition) -> None:
        """Say what became of a push: it goes out with the next acknowledgement, at the latest on closing.

        May be called from any thread and at any later time, for pushes of earlier subscriptions of this user too. An
        outcome that the server refuses, as of a push that it lost with its history, is dropped and logged.
        """
        with self._lock:
            self._stream.report(push, disposition)
            self._changed.notify_all()

    def close(self) -> None:
        """End the subscription: the last acknowledgement is sent, and whoever iterates comes to an end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._stream.sending, self._timeout)
            rest = self._stream.acknowledgement(closing=True)
        try:
            # Before the stream ends: afterwards the server knows the subscription no more.
            while rest is not None:
                rest = self._send_rest(rest)
        finally:
            if self._call is not None:
                self._call.cancel()
        for thread in self._threads:
            thread.join(self._timeout)

    def __enter__(self) -> Self:
        with self._lock:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._threads or self._closed:
            return
        for name, work in (("tidings-subscription", self._read), ("tidings-acknowledgements", self._acknowledge)):
            self._threads.append(threading.Thread(target=self._work, args=(work,), name=name, daemon=True))
            self._threads[-1].start()

    def _work(self, work: Callable[[], None]) -> None:
        """Do a thread's work; what ends it is told to whoever iterates."""
        try:
            work()
        except Exception as error:
            with self._lock:
                self._error = self._error or error
                self._changed.notify_all()

    def _read(self) -> None:
        """Keep a stream open, one after another, until the subscription is closed or cannot go on."""
        while True:
            with self._lock:
                if self._closed:
                    return
                # No deadline: a stream that went silent is cancelled.
                self._call = call = self._stub.Subscribe(self._stream.open(self._clock()))
                self._changed.notify_all()
            error = self._drain(call)
            with self._lock:
                if self._closed:
                    return
                pause = self._stream.lost(error, self._clock())
                self._changed.wait_for(lambda: self._closed, pause)

    def _drain(self, call: Any) -> errors.TidingsError | None:
        """Feed the messages of a stream to its state until either has enough."""
        try:
            for message in call:
                with self._lock:
                    useful = self._stream.receive(message, self._clock())
                    self._changed.notify_all()
                if not useful:
                    break
        except grpc.RpcError as error:
            # What was cancelled here is explained by the stream's state.
            return None if call.cancelled() else wire.error_from(error, self._address, self._timeout)
        finally:
            call.cancel()
        return None

    def _acknowledge(self) -> None:
        """Send what is due, one after another, until the subscription is closed."""
        while True:
            with self._lock:
                request = None
                while not self._closed and (request := self._stream.acknowledgement()) is None:
                    self._changed.wait()
                if request is None:
                    return
            failed = self._send(request)
            with self._lock:
                useful = self._stream.acknowledged(request, failed)
                if not useful:
                    self._call.cancel()
                self._changed.notify_all()
                if not (useful and _settled(failed)) and not self._closed:
                    # It may be due still, and goes out with what happens next.
                    self._changed.wait()

    def _send(self, request: Any) -> errors.TidingsError | None:
        """Send an acknowledgement and wait for it; return what went wrong."""
        try:
            self._stub.Acknowledge(request, timeout=self._timeout)
        except grpc.RpcError as error:
            return wire.error_from(error, self._address, self._timeout)
        return None

    def _send_rest(self, request: Any) -> Any:
        """Send an acknowledgement, wait for it, and return what is left to send."""
        failed = self._send(request)
        with self._lock:
            useful = self._stream.acknowledged(request, failed)
            return self._stream.acknowledgement(closing=True) if useful and _settled(failed) else None


def _settled(error: errors.TidingsError | None) -> bool:
    """Whether an acknowledgement arrived, or was refused for what is not sent again: the next may go out."""
    return error is None or isinstance(error, errors.InvalidArgument)

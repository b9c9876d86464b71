"""The asyncio client: `tidings.Client` with every call awaited."""

import asyncio
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from types import TracebackType
from typing import Any, Self

import grpc

from tidings import (
    errors,
    history,
    model,
    model_audience,
    model_contacts,
    model_explain,
    model_import,
    model_privacy,
    model_profile,
    wire,
    wire_audience,
    wire_catalogue,
    wire_contacts,
    wire_events,
    wire_explain,
    wire_privacy,
    wire_profile,
    wire_push,
)
from tidings.aio_subscription import Subscription as Subscription
from tidings.filters import Filter
from tidings.stream import Stream
from tidings.v1 import catalog_service_pb2, release_service_pb2
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.contact_service_pb2_grpc import ContactServiceStub
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.push_service_pb2_grpc import PushServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tidings.v1.release_service_pb2_grpc import ReleaseServiceStub


class Client:
    """A connection to one Tidings server, for one event loop; tasks share it.

    Arguments, results and errors are those of `tidings.Client`. Make it inside the running loop it is used in, as
    with `async with tidings.aio.Client() as client:`. A cancelled task cancels its call.
    """

    def __init__(
        self,
        address: str = wire.DEFAULT_ADDRESS,
        *,
        timeout: float = 1.0,
        max_attempts: int = 4,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        _needs_running_loop()
        self._address = wire.address_of(address)
        self._timeout = wire.timeout_of(timeout)
        options = wire.channel_options(max_attempts)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options)
        self._recommendations = RecommendationServiceStub(self._channel)
        self._releases = ReleaseServiceStub(self._channel)
        self._events = EventServiceStub(self._channel)
        self._profiles = ProfileServiceStub(self._channel)
        self._contacts = ContactServiceStub(self._channel)
        self._pushes = PushServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    async def recommend(
        self,
        user_id: str,
        *,
        k: int | None = None,
        serving_config: str = "",
        context_item_ids: Sequence[str] = (),
        exclude_item_ids: Sequence[str] = (),
        request_id: str = "",
        query: str = "",
        category: str = "",
        filter: Filter | None = None,
        examples: model.RecommendExamples | None = None,
        vector: Sequence[float] = (),
        consistency_token: str = "",
        timeout: float | None = None,
    ) -> model.Recommendation:
        """Return items for one user, best first; the arguments are those of `tidings.Client.recommend`."""
        question = model.RecommendQuery(
            user_id,
            k=k,
            serving_config=serving_config,
            context_item_ids=context_item_ids,
            exclude_item_ids=exclude_item_ids,
            request_id=request_id,
            query=query,
            category=category,
            filter=filter,
            examples=examples,
            vector=vector,
            consistency_token=consistency_token,
        )
        return wire.recommendation(
            await self._call(self._recommendations.Recommend, wire.recommend_request(question), timeout)
        )

    async def batch_recommend(
        self, queries: Iterable[model.RecommendQuery], *, timeout: float | None = None
    ) -> list[model.Recommendation]:
        """Return one answer per query, in order, for up to 256 at once; one bad query refuses them all."""
        return wire.recommendations(
            await self._call(self._recommendations.BatchRecommend, wire.batch_request(queries), timeout)
        )

    async def explain(
        self, question: model.RecommendQuery | str, item_ids: Sequence[str] = (), *, timeout: float | None = None
    ) -> model_explain.Explanation:
        """Return why items, 100 at most, are in the answer to a question now, or why they are not.

        `question` is what `recommend` is asked, as a RecommendQuery, or just the id of a user. Without `item_ids` those
        of the answer are explained.
        """
        request = wire_explain.question_request(question, item_ids)
        return wire_explain.explanation(await self._call(self._recommendations.Explain, request, timeout))

    async def explain_decision(
        self, decision_id: str, item_ids: Sequence[str] = (), *, timeout: float | None = None
    ) -> model_explain.Explanation:
        """Return what became of items, 100 at most, in a decision; without `item_ids`, of those it chose.

        `decision_id` is that of a `Recommendation` that was recorded, or the `push_id` of a push. Raises NotFound when
        there is no such decision, or no more.
        """
        request = wire_explain.decision_request(decision_id, item_ids)
        return wire_explain.explanation(await self._call(self._recommendations.Explain, request, timeout))

    async def find_audience(
        self,
        item_ids: Sequence[str] = (),
        *,
        filter: Filter | None = None,
        user_filter: Filter | None = None,
        min_score: float | None = None,
        limit: int = 1000,
        page_size: int | None = None,
        include_refused: bool = False,
        page_token: str = "",
        timeout: float = 600.0,
    ) -> AsyncIterator[model_audience.AudiencePage]:
        """Yield the users for whom items, 64 at most, are best, in pages, best first; `timeout` is for all of it.

        In place of ids `filter` says what the items must be; of more than 64 that pass and may be sold now, those that
        were bought most are taken. A user's value is that of the best of the items. `min_score` leaves out those worth
        less, `limit` is the number of users (10,000,000 at most), `page_size` how many come together (5000 at most).
        Who bought an item, gave it back, or asked to see less of it is not found by it, unless `include_refused`.
        `user_filter` says what users must be, by declared attributes and by `tags`, such as `any_of("tags", "vip")`.
        `page_token` of a page goes on after it, for the same question; FailedPrecondition when another release answers
        by then. When the server is gone for a moment after a page came, what is left is asked for again.
        """
        request = wire_audience.audience_request(
            item_ids,
            filter=filter,
            min_score=min_score,
            limit=limit,
            page_size=page_size,
            include_refused=include_refused,
            page_token=page_token,
            user_filter=user_filter,
        )
        more = True
        while more:
            more = False
            try:
                async for part in self._recommendations.FindAudience(request, timeout=wire.timeout_of(timeout)):
                    page = wire_audience.audience_page(part)
                    yield page
                    more = wire_audience.gone_on(request, page)
                more = False
            except grpc.RpcError as rpc_error:
                error = wire.error_from(rpc_error, self._address, timeout)
                # What has come is not asked for again.
                if not (more and isinstance(error, errors.Unavailable)):
                    raise error from rpc_error

    async def list_releases(self, *, timeout: float | None = None) -> list[model.Release]:
        """Return every release of the server, newest first, broken ones with their problem."""
        request = release_service_pb2.ListReleasesRequest()
        return wire.releases(await self._call(self._releases.ListReleases, request, timeout))

    async def promote_release(self, release_id: str, *, timeout: float = 60.0) -> model.Promotion:
        """Let a release answer, once the server has validated it; when that fails the old one goes on answering."""
        return wire.promotion(
            await self._call(self._releases.PromoteRelease, wire.promote_request(release_id), timeout)
        )

    async def rollback_release(self, from_release_id: str = "", *, timeout: float = 60.0) -> model.Promotion:
        """Go back to the release that answered before; never repeated by itself, see `tidings.Client`."""
        return wire.promotion(
            await self._call(self._releases.RollbackRelease, wire.rollback_request(from_release_id), timeout)
        )

    async def record(
        self, events: model.Event | Iterable[model.Event], *, timeout: float | None = None
    ) -> model.Recorded:
        """Record what users did, as `tidings.Client.record` does: a verdict for each event, in the order given."""
        request, rejected = wire_events.record_request(events)
        answer = None if request is None else await self._call(self._events.RecordEvents, request, timeout)
        return wire_events.recorded(answer, rejected)

    async def import_events(
        self,
        import_id: str,
        events: history.Rows,
        *,
        on_progress: Callable[[model_import.Imported], None] | None = None,
        timeout: float = 600.0,
    ) -> model_import.Imported:
        """Import history and return how far it has come; see `tidings.Client.import_events`."""
        rows = history.History(import_id, events)
        sending = iter((rows.question,))
        while True:
            try:
                state = rows.reached(await self._call(self._events.ImportEvents, sending, timeout))
            except errors.TidingsError as error:
                await asyncio.sleep(rows.failed(error))
                sending = iter((rows.question,))
                continue
            if on_progress is not None:
                on_progress(state)
            if not rows.more():
                return state
            sending = rows.messages()

    async def get_profile(
        self, user_id: str, *, consistency_token: str = "", timeout: float | None = None
    ) -> model_profile.Profile:
        """Return what is known of a user; raises NotFound for one of whom nothing is recorded."""
        request = wire_profile.profile_request(user_id, consistency_token)
        return wire_profile.profile(await self._call(self._profiles.GetProfile, request, timeout))

    async def update_profile(
        self,
        user_id: str,
        attributes: Mapping[str, model.AttributeValue | None] | None = None,
        *,
        tags: Iterable[str | model_profile.TagSetting] = (),
        remove_tags: Iterable[str] = (),
        source: str = "",
        event_time: datetime | None = None,
        event_id: str = "",
        timeout: float | None = None,
    ) -> model_profile.Updated:
        """Set and remove what is said of a user, all that is named or nothing; of two words the later one stands.

        `attributes` are values by name, each declared in the server's settings, None to remove one: a text, texts, a
        number, True or False, a time with a zone, a day. `tags` are set by hand, as names or TagSettings; `remove_tags`
        takes some away. `source` is who says so. `event_time` has a time zone; None means now. A second update of the
        same `event_id` does nothing; without one, one is made for this call and its retries.
        """
        request = wire_profile.update_request(
            user_id, attributes or {}, tags, remove_tags, source, event_time, event_id or uuid.uuid4().hex
        )
        return wire_profile.updated(await self._call(self._profiles.UpdateProfile, request, timeout))

    async def register_contact(
        self, user_id: str, contact: model_contacts.Contact, *, timeout: float | None = None
    ) -> model_contacts.RegisteredContact:
        """Register how a user can be reached: an Email, Phone, WebPush or DeviceToken. Again is a sign of life.

        Raises InvalidArgument also when the user has as many contacts as may be.
        """
        request = wire_contacts.register_request(user_id, contact)
        return wire_contacts.registered(await self._call(self._contacts.RegisterContact, request, timeout))

    async def remove_contact(
        self, user_id: str, contact: str | model_contacts.Contact, *, timeout: float | None = None
    ) -> bool:
        """Remove a contact of a user, named by its contact_id or by itself; False when the user did not have it."""
        request = wire_contacts.remove_request(user_id, contact)
        removed: bool = (await self._call(self._contacts.RemoveContact, request, timeout)).removed
        return removed

    async def set_preferences(
        self,
        user_id: str,
        said: model_privacy.Preferences,
        *,
        event_time: datetime | None = None,
        event_id: str = "",
        lift_erasure: bool = False,
        timeout: float | None = None,
    ) -> model_profile.Updated:
        """Say what a person said about channels, topics, quiet hours, and what may be done with what is known.

        What is not named stays as it was. `event_time` has a time zone; None means now. A second call of the same
        `event_id` does nothing; without one, one is made for this call and its retries. `lift_erasure`: the person was
        erased and came back.
        """
        request = wire_privacy.preferences_request(
            user_id, said, event_time, event_id or uuid.uuid4().hex, lift_erasure
        )
        return wire_profile.updated(await self._call(self._profiles.SetPreferences, request, timeout))

    async def export_profile(self, user_id: str, *, timeout: float = 600.0) -> AsyncIterator[dict[str, Any]]:
        """Yield everything that the server keeps of a person, one thing after the other; `timeout` is for all of it.

        Each is a dict with a "kind": "about" first, then "document", "event", "push", "decision", "timer" and what else
        there is, and "end" last, which counts them. NotFound when nothing is kept.
        """
        request = wire_privacy.export_request(user_id)
        seconds = wire.timeout_of(timeout)
        try:
            async for part in self._profiles.ExportProfile(request, timeout=seconds):
                for line in wire_privacy.lines([part]):
                    yield line
        except grpc.RpcError as error:
            raise wire.error_from(error, self._address, seconds) from error

    async def erase_profile(self, user_id: str, *, timeout: float = 60.0) -> model_privacy.ErasureReceipt:
        """Erase a person, and all ids merged into this one. It cannot be undone; asking again gives the receipt again.

        What is recorded of the id later is refused, until `set_preferences` says, with `lift_erasure`, that they are
        back.
        """
        request = wire_privacy.erase_request(user_id)
        return wire_privacy.receipt(await self._call(self._profiles.EraseProfile, request, timeout))

    async def merge_profiles(
        self, visitor_id: str, user_id: str, *, timeout: float | None = None
    ) -> model_profile.Merged:
        """Make two ids one person, such as a visitor who has logged in; it cannot be undone.

        What is known under both is joined, and the visitor's id means the user from then on, in every call. Safe to
        repeat. Raises InvalidArgument for a merge with oneself or in a circle, FailedPrecondition when the visitor is
        merged into a third user.
        """
        request = wire_profile.merge_request(visitor_id, user_id)
        return wire_profile.merged(await self._call(self._profiles.MergeProfiles, request, timeout))

    async def send_push(
        self,
        user_id: str,
        title: str,
        *,
        body: str = "",
        item_ids: Sequence[str] = (),
        url: str = "",
        data: Mapping[str, str] | None = None,
        ttl: float | timedelta | None = None,
        collapse_key: str = "",
        topic: str = "",
        asked_for: bool = False,
        request_id: str = "",
        timeout: float | None = None,
    ) -> model.SentPush:
        """Send a push to one user, as `tidings.Client.send_push` does; one that is suppressed raises nothing."""
        request = wire_push.send_request(
            user_id,
            title,
            body=body,
            item_ids=item_ids,
            url=url,
            data=data,
            ttl=ttl,
            collapse_key=collapse_key,
            topic=topic,
            asked_for=asked_for,
            request_id=request_id or uuid.uuid4().hex,
        )
        return wire_push.sent_push(await self._call(self._pushes.SendPush, request, timeout))

    async def upsert_items(
        self,
        items: model.CatalogItem | Iterable[model.CatalogItem],
        *,
        only: Sequence[str] = (),
        timeout: float | None = None,
    ) -> model.Upserted:
        """Add items or describe them anew, as `tidings.Client.upsert_items` does."""
        request = wire_catalogue.upsert_request(items, only)
        return wire_catalogue.upserted(await self._call(self._catalog.UpsertItems, request, timeout))

    async def delete_items(
        self, item_ids: str | Iterable[str], update_time: datetime, *, timeout: float | None = None
    ) -> model.Deleted:
        """Take items out of the catalogue, as `tidings.Client.delete_items` does."""
        request = wire_catalogue.delete_request(item_ids, update_time)
        return wire_catalogue.deleted(await self._call(self._catalog.DeleteItems, request, timeout))

    async def get_item(
        self, item_id: str, *, consistency_token: str = "", timeout: float | None = None
    ) -> model.CatalogItem:
        """Return an item as it is served, without its vector; raises NotFound for one that is not there or deleted."""
        request = wire_catalogue.get_request(item_id, consistency_token)
        return wire_catalogue.catalog_item((await self._call(self._catalog.GetItem, request, timeout)).item)

    async def list_items(self, *, timeout: float = 600.0) -> AsyncIterator[model.CatalogItem]:
        """Yield every item as it is served, as `tidings.Client.list_items` does."""
        token, more = "", True
        while more:
            request = catalog_service_pb2.ListItemsRequest(page_token=token)
            more = False
            try:
                async for part in self._catalog.ListItems(request, timeout=wire.timeout_of(timeout)):
                    for item in part.items:
                        yield wire_catalogue.catalog_item(item)
                    token = part.next_page_token
                    more = bool(token)
            except grpc.RpcError as rpc_error:
                error = wire.error_from(rpc_error, self._address, timeout)
                # What has come is not asked for again.
                if not (more and isinstance(error, errors.Unavailable)):
                    raise error from rpc_error

    def subscribe(
        self,
        user_id: str,
        *,
        device_id: str = "",
        max_unacked: int | None = None,
        random: Random | None = None,
    ) -> Subscription:
        """Return the pushes of a user as an asynchronous iterator; see `tidings.Client.subscribe`."""
        stream = Stream(user_id, device_id=device_id, max_unacked=max_unacked, random=random or Random())
        subscription = Subscription(self._pushes, stream, self._address, self._timeout)
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        """Close the subscriptions, then the connection; calls under way end with an error."""
        for subscription in list(self._subscriptions):
            await subscription.close()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Any, request: object, timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else wire.timeout_of(timeout)
        try:
            return await method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise wire.error_from(error, self._address, seconds) from error


def _needs_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("make a tidings.aio.Client inside a running event loop, or use tidings.Client") from None

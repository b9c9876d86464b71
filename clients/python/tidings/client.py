"""The blocking client."""

import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from tidings.filters import Filter
from tidings.stream import Stream
from tidings.subscription import Subscription
from tidings.v1 import catalog_service_pb2, release_service_pb2
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.contact_service_pb2_grpc import ContactServiceStub
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.push_service_pb2_grpc import PushServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tidings.v1.release_service_pb2_grpc import ReleaseServiceStub


class Client:
    """A connection to one Tidings server; safe to share between threads, and best shared.

    `timeout` is the seconds a call may take, all attempts together, where the call names none. A call that finds the
    server unavailable is tried up to `max_attempts` times (1 to 5) with growing pauses; only `rollback_release` is
    never repeated. `credentials` make the connection TLS. Every call raises an error of `tidings.errors`.
    """

    def __init__(
        self,
        address: str = wire.DEFAULT_ADDRESS,
        *,
        timeout: float = 1.0,
        max_attempts: int = 4,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._address = wire.address_of(address)
        self._timeout = wire.timeout_of(timeout)
        options = wire.channel_options(max_attempts)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._recommendations = RecommendationServiceStub(self._channel)
        self._releases = ReleaseServiceStub(self._channel)
        self._events = EventServiceStub(self._channel)
        self._profiles = ProfileServiceStub(self._channel)
        self._contacts = ContactServiceStub(self._channel)
        self._pushes = PushServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def recommend(
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
        """Return items for one user, best first.

        `k` is the number of items, 1 to 500 (the server's default is 20). `serving_config` names the recipe ("" means
        "for-you"). `context_item_ids` are the items this answer is about, at most 64; they and `exclude_item_ids`, at
        most 10,000, are never part of it. `request_id` comes back in the answer. `query` is what the user searches for
        and `category` the one being looked at, for the sources that go by them. `filter` says what every item must be.
        `examples` are items that the answer should and should not be like, and `vector` is one to search with in place
        of the user's own.
        `consistency_token` of a `Recorded` makes the answer take those events into account.
        """
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
            self._call(self._recommendations.Recommend, wire.recommend_request(question), timeout)
        )

    def batch_recommend(
        self, queries: Iterable[model.RecommendQuery], *, timeout: float | None = None
    ) -> list[model.Recommendation]:
        """Return one answer per query, in order, for up to 256 at once; one bad query refuses them all."""
        return wire.recommendations(
            self._call(self._recommendations.BatchRecommend, wire.batch_request(queries), timeout)
        )

    def explain(
        self, question: model.RecommendQuery | str, item_ids: Sequence[str] = (), *, timeout: float | None = None
    ) -> model_explain.Explanation:
        """Return why items, 100 at most, are in the answer to a question now, or why they are not.

        `question` is what `recommend` is asked, as a RecommendQuery, or just the id of a user. Without `item_ids` those
        of the answer are explained.
        """
        request = wire_explain.question_request(question, item_ids)
        return wire_explain.explanation(self._call(self._recommendations.Explain, request, timeout))

    def explain_decision(
        self, decision_id: str, item_ids: Sequence[str] = (), *, timeout: float | None = None
    ) -> model_explain.Explanation:
        """Return what became of items, 100 at most, in a decision; without `item_ids`, of those it chose.

        `decision_id` is that of a `Recommendation` that was recorded, or the `push_id` of a push. Raises NotFound when
        there is no such decision, or no more.
        """
        request = wire_explain.decision_request(decision_id, item_ids)
        return wire_explain.explanation(self._call(self._recommendations.Explain, request, timeout))

    def find_audience(
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
    ) -> Iterator[model_audience.AudiencePage]:
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
                for part in self._recommendations.FindAudience(request, timeout=wire.timeout_of(timeout)):
                    page = wire_audience.audience_page(part)
                    yield page
                    more = wire_audience.gone_on(request, page)
                more = False
            except grpc.RpcError as rpc_error:
                error = wire.error_from(rpc_error, self._address, timeout)
                # What has come is not asked for again.
                if not (more and isinstance(error, errors.Unavailable)):
                    raise error from rpc_error

    def list_releases(self, *, timeout: float | None = None) -> list[model.Release]:
        """Return every release of the server, newest first, broken ones with their problem."""
        request = release_service_pb2.ListReleasesRequest()
        return wire.releases(self._call(self._releases.ListReleases, request, timeout))

    def promote_release(self, release_id: str, *, timeout: float = 60.0) -> model.Promotion:
        """Let a release answer, once the server has validated it; when that fails the old one goes on answering."""
        return wire.promotion(self._call(self._releases.PromoteRelease, wire.promote_request(release_id), timeout))

    def rollback_release(self, from_release_id: str = "", *, timeout: float = 60.0) -> model.Promotion:
        """Go back to the release that answered before.

        The call is never repeated by itself. With `from_release_id`, the release to leave, it does nothing unless
        that one is serving, so you may repeat it: at most one release is left.
        """
        return wire.promotion(
            self._call(self._releases.RollbackRelease, wire.rollback_request(from_release_id), timeout)
        )

    def record(self, events: model.Event | Iterable[model.Event], *, timeout: float | None = None) -> model.Recorded:
        """Record what users did: one event, or up to 1000 of any users; in any order.

        Each gets a verdict of its own, in the order given: a bad event does not refuse the others, and raises nothing.
        An accepted one is on disk and in the user's profile. Recording the same events again, by their `event_id`, is
        safe. An event that cannot be sent at all, such as one of an unknown type or with a time without a zone, is
        rejected here in the same way; when none can be sent, no call is made and the consistency token is "".
        """
        request, rejected = wire_events.record_request(events)
        answer = None if request is None else self._call(self._events.RecordEvents, request, timeout)
        return wire_events.recorded(answer, rejected)

    def import_events(
        self,
        import_id: str,
        events: history.Rows,
        *,
        on_progress: Callable[[model_import.Imported], None] | None = None,
        timeout: float = 600.0,
    ) -> model_import.Imported:
        """Import history: what users did before, any number of events of any users; return how far it has come.

        `import_id` is a name of your own, the same whenever the import is gone on with: the server knows how far it
        came, and rows that are done are taken from `events` and passed over, so give them from the first one on, in the
        same order. A row that is not as it must be is rejected, and named in `faults`; an InvalidArgument in place of
        an event stands for a row that cannot be read. Each event needs its `event_time`, and an `event_id` of the
        shop's own: the import may then be repeated under another name too. No trigger is started. Some 10,000 rows go
        in one call, for which `timeout` is; `on_progress` is told after each. When the server is gone for a moment, the
        import goes on after it; any other error ends it, and what was done stays done.
        """
        rows = history.History(import_id, events)
        sending = iter((rows.question,))
        while True:
            try:
                state = rows.reached(self._call(self._events.ImportEvents, sending, timeout))
            except errors.TidingsError as error:
                time.sleep(rows.failed(error))
                sending = iter((rows.question,))
                continue
            if on_progress is not None:
                on_progress(state)
            if not rows.more():
                return state
            sending = rows.messages()

    def get_profile(
        self, user_id: str, *, consistency_token: str = "", timeout: float | None = None
    ) -> model_profile.Profile:
        """Return what is known of a user; raises NotFound for one of whom nothing is recorded."""
        request = wire_profile.profile_request(user_id, consistency_token)
        return wire_profile.profile(self._call(self._profiles.GetProfile, request, timeout))

    def update_profile(
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
        return wire_profile.updated(self._call(self._profiles.UpdateProfile, request, timeout))

    def register_contact(
        self, user_id: str, contact: model_contacts.Contact, *, timeout: float | None = None
    ) -> model_contacts.RegisteredContact:
        """Register how a user can be reached: an Email, Phone, WebPush or DeviceToken. Again is a sign of life.

        Raises InvalidArgument also when the user has as many contacts as may be.
        """
        request = wire_contacts.register_request(user_id, contact)
        return wire_contacts.registered(self._call(self._contacts.RegisterContact, request, timeout))

    def remove_contact(
        self, user_id: str, contact: str | model_contacts.Contact, *, timeout: float | None = None
    ) -> bool:
        """Remove a contact of a user, named by its contact_id or by itself; False when the user did not have it."""
        request = wire_contacts.remove_request(user_id, contact)
        removed: bool = (self._call(self._contacts.RemoveContact, request, timeout)).removed
        return removed

    def set_preferences(
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
        return wire_profile.updated(self._call(self._profiles.SetPreferences, request, timeout))

    def export_profile(self, user_id: str, *, timeout: float = 600.0) -> Iterator[dict[str, Any]]:
        """Yield everything that the server keeps of a person, one thing after the other; `timeout` is for all of it.

        Each is a dict with a "kind": "about" first, then "document", "event", "push", "decision", "timer" and what else
        there is, and "end" last, which counts them. NotFound when nothing is kept.
        """
        request = wire_privacy.export_request(user_id)
        seconds = wire.timeout_of(timeout)
        try:
            yield from wire_privacy.lines(self._profiles.ExportProfile(request, timeout=seconds))
        except grpc.RpcError as error:
            raise wire.error_from(error, self._address, seconds) from error

    def erase_profile(self, user_id: str, *, timeout: float = 60.0) -> model_privacy.ErasureReceipt:
        """Erase a person, and all ids merged into this one. It cannot be undone; asking again gives the receipt again.

        What is recorded of the id later is refused, until `set_preferences` says, with `lift_erasure`, that they are
        back.
        """
        request = wire_privacy.erase_request(user_id)
        return wire_privacy.receipt(self._call(self._profiles.EraseProfile, request, timeout))

    def merge_profiles(self, visitor_id: str, user_id: str, *, timeout: float | None = None) -> model_profile.Merged:
        """Make two ids one person, such as a visitor who has logged in; it cannot be undone.

        What is known under both is joined, and the visitor's id means the user from then on, in every call. Safe to
        repeat. Raises InvalidArgument for a merge with oneself or in a circle, FailedPrecondition when the visitor is
        merged into a third user.
        """
        request = wire_profile.merge_request(visitor_id, user_id)
        return wire_profile.merged(self._call(self._profiles.MergeProfiles, request, timeout))

    def send_push(
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
        """Send a push to one user and return what became of it.

        Sent: `decision` is SENT, and the push has a `push_id` and an `offset`. Not sent, which raises nothing:
        `decision` is SUPPRESSED and `reason` says why, such as CAP_DAY; `push_id` is "" and `offset` 0.

        `item_ids` are at most 20 items it is about; `url` the address to open; `data` texts to give along. `ttl` is how
        long it is of use, as a timedelta or in seconds, 1 second to 30 days (None: the server's setting). It takes the
        place of an older push with the same `collapse_key`. `topic` is what people can turn off; `asked_for`: it is no
        marketing but word of what the user did, and needs no consent to that. A second request with the same
        `request_id` sends nothing and returns what became of the first, as if it were new; without one, one is made for
        this call and its retries.
        """
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
        return wire_push.sent_push(self._call(self._pushes.SendPush, request, timeout))

    def upsert_items(
        self,
        items: model.CatalogItem | Iterable[model.CatalogItem],
        *,
        only: Sequence[str] = (),
        timeout: float | None = None,
    ) -> model.Upserted:
        """Add items to the catalogue or describe them anew, up to 1000: all of them, or none when one is bad.

        Of the changes of one item the one with the newest `update_time` stands, whatever order they come in; an older
        one is a result, and raises nothing. `only` names any of "price", "stock" and "available": then just these are
        changed, and the items need carry nothing else. The token in the answer makes the next call find the items.
        """
        request = wire_catalogue.upsert_request(items, only)
        return wire_catalogue.upserted(self._call(self._catalog.UpsertItems, request, timeout))

    def delete_items(
        self, item_ids: str | Iterable[str], update_time: datetime, *, timeout: float | None = None
    ) -> model.Deleted:
        """Take items out of the catalogue, one or up to 1000, as of `update_time`; what changed later stays.

        What is not there is a result, and raises nothing.
        """
        request = wire_catalogue.delete_request(item_ids, update_time)
        return wire_catalogue.deleted(self._call(self._catalog.DeleteItems, request, timeout))

    def get_item(self, item_id: str, *, consistency_token: str = "", timeout: float | None = None) -> model.CatalogItem:
        """Return an item as it is served, without its vector; raises NotFound for one that is not there or deleted."""
        request = wire_catalogue.get_request(item_id, consistency_token)
        return wire_catalogue.catalog_item((self._call(self._catalog.GetItem, request, timeout)).item)

    def list_items(self, *, timeout: float = 600.0) -> Iterator[model.CatalogItem]:
        """Yield every item as it is served, without its vector; `timeout` is for all of it.

        Raises FailedPrecondition when no release serves, or another one takes over while a broken list is gone on with.
        """
        token, more = "", True
        while more:
            request = catalog_service_pb2.ListItemsRequest(page_token=token)
            more = False
            try:
                for part in self._catalog.ListItems(request, timeout=wire.timeout_of(timeout)):
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
        """Return the pushes of a user, as they come, as an iterator to close in the end; see `Subscription`.

        `device_id` names the device: what one device acknowledged comes to it no more, and its newest subscription ends
        the one before. `max_unacked`, 1 to 1000, is how many pushes may be under way that were not acknowledged (the
        server's default is 32). `random` draws the pauses before connecting again.
        """
        stream = Stream(user_id, device_id=device_id, max_unacked=max_unacked, random=random or Random())
        subscription = Subscription(self._pushes, stream, self._address, self._timeout)
        self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """Close the subscriptions, then the connection; calls under way end with an error."""
        for subscription in list(self._subscriptions):
            subscription.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: object, timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else wire.timeout_of(timeout)
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise wire.error_from(error, self._address, seconds) from error

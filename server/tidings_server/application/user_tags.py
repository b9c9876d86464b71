"""What tags and conditions say of a user now: the rules of the settings over a profile, in the terms of what serves."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from tidings_core.changes import base_of
from tidings_core.declared import Declarations
from tidings_core.evaluation import evaluate
from tidings_core.expressions import Call, Expression
from tidings_core.privacy import EVERYTHING, PrivacyRules, standing_of
from tidings_core.profile import Profile
from tidings_core.release import Release
from tidings_core.tables import Int32
from tidings_core.tag_functions import tag_of
from tidings_core.tag_view import FOREVER, Seen, View
from tidings_core.tags import NONE_GIVEN, Given, Rule, ends, give, with_all_asked

RowsOf = Callable[[Release, Profile], Int32]
"""The rows of a release by item_no, complete for the items of a profile. Raises StorageFailed."""
NO_ROWS: Int32 = np.empty(0, np.int32)


class UserTags:
    """Asks the rules. For any thread."""

    def __init__(
        self,
        rules: Sequence[Rule],
        declared: Declarations,
        serving: Callable[[], Release | None],
        rows_of: RowsOf,
        privacy: PrivacyRules = EVERYTHING,
    ) -> None:
        """`rules` stand each after those it asks for; `serving` gives the release that answers, if one does.

        Of a profile that may not be used, by `privacy`, nothing is told.
        """
        self.rules = rules
        self.declared = declared
        self._serving = serving
        self._privacy = privacy
        self._rows_of = rows_of

    def usable(self, profile: Profile, now_ms: int) -> bool:
        """Whether a profile may be gone by at a moment (Unix milliseconds)."""
        return standing_of(profile, self._privacy).may("answer", now_ms)

    def view(self, profile: Profile) -> Callable[[int], View]:
        """The profile at any moment (Unix milliseconds), in the terms of what serves now. Raises StorageFailed."""
        release = self._serving()
        if release is None:
            return lambda moment: View(profile, moment, self.declared)
        rows, snapshot = self._rows_of(release, profile), release.snapshot
        return lambda moment: View(profile, moment, self.declared, rows, snapshot)

    def given(self, profile: Profile, now_ms: int) -> tuple[Given, Mapping[str, int]]:
        """The tags that rules give, and when those end whose end is in sight. Raises StorageFailed."""
        if not self.usable(profile, now_ms):
            return NONE_GIVEN, {}
        view_at = self.view(profile)
        given = give(self.rules, view_at(now_ms))
        return given, ends(self.rules, given, view_at)

    def found(self, names: Collection[str], profile: Profile, now_ms: int) -> tuple[frozenset[str], float]:
        """Which tags of these names or families the user has, by rule or by hand, and until when at least.

        The moment is Unix milliseconds. Raises StorageFailed.
        """
        if not self.usable(profile, now_ms):
            return frozenset(), FOREVER
        rules = with_all_asked([base_of(name) for name in names], self.rules)
        given = give(rules, self.view(profile)(now_ms))
        hand = profile.stated.tags_at(now_ms)
        until = given.until
        for word in hand.values():
            if word.setting is not None and word.setting.expires:
                until = min(until, word.setting.expires)
        return frozenset(tag for tag in {*given.tags, *hand} if tag in names or base_of(tag) in names), until

    def holds(self, condition: Expression, profile: Profile, now_ms: int) -> bool:
        """Whether a condition holds for a user. Raises StorageFailed."""
        asked = [tag for node in condition.nodes if isinstance(node, Call) and (tag := tag_of(node)) is not None]
        has: frozenset[str] = self.found(asked, profile, now_ms)[0] if asked else frozenset()

        def has_tag(name: str) -> Seen:
            return Seen(name in has or any(base_of(tag) == name for tag in has), FOREVER)

        if not self.usable(profile, now_ms):
            return False
        return evaluate(condition, self.view(profile)(now_ms), has_tag, {}).value is True

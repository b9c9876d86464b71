"""What `find_audience` gives: plain frozen values, as in model.py."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudienceMember:
    """A user, what the items are worth to them, and the item that has that worth."""

    user_id: str
    score: float  # larger is better; comparable within one release only
    item_id: str


@dataclass(frozen=True, slots=True)
class AudiencePage:
    """Some users of an audience, best first; `page_token` goes on after the last of them."""

    members: tuple[AudienceMember, ...]
    page_token: str  # "" when nobody is left
    release_id: str
    item_count: int  # items that the audience was sought for
    passing_count: int  # items that were asked for
    withheld: bool = False  # fewer users were found than the server may tell of

"""What search and browsing need of a catalogue: its words and its categories, each with their items."""

from collections.abc import Iterator, Sequence

from tidings.v1 import item_pb2
from tidings_core import text
from tidings_core.model import Postings
from tidings_core.tables import Float32
from tidings_index_builder.progress import Progress, silent


def index_payloads(
    payloads: Sequence[bytes], popularity: Float32, progress: Progress = silent
) -> tuple[Postings | None, Postings | None]:
    """The words and the categories of N encoded items; in a category the most popular (popularity f32[N]) come first.

    None where no item has any.
    """
    paths: list[list[str]] = []

    def documents() -> Iterator[Sequence[text.Field]]:
        for row, payload in enumerate(payloads):
            if row % 10_000 == 0:
                progress("indexing words", row, len(payloads))
            item = item_pb2.Item.FromString(payload)
            paths.append(list(item.categories))
            yield text.item_fields(item.title, item.description, item.categories, item.brand)

    words = text.index_words(documents())
    return words, text.index_categories(paths, popularity)

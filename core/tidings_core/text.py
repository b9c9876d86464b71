"""Text: the words of titles and queries, the index from a word to its items, and search in it."""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tidings_core.model import Postings, Trending
from tidings_core.tables import Float32, Float64, IdTable, Int32, Int64, mostly_unused, places

K1, B = 1.2, 0.75
"""How soon more of a word stops to count, and how much longer texts count for less: the usual values of BM25."""
WORD_LENGTH = 64
"""Of a longer word only so many characters count."""
QUERY_WORDS = 16
"""So many different words of a query are looked up."""
TITLE, OTHER = 3.0, 1.0
"""A word of an item's title counts as much as three of its description, categories or brand."""
LONGEST_TEXT = 4000
"""Of a longer text of an item only so many characters are searched."""

_CJK = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(rf"([{_CJK}]+)|((?:[^\W_{_CJK}][\u0300-\u036f]*)+)")
_APOSTROPHE = re.compile(r"(?<=[^\W_])['\u2019](?=[^\W_])")

Field = tuple[str, float]
"""A text, and how much a word in it counts."""
NO_WORDS = Postings(IdTable.of([]), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
"""An index without a word."""


def fold(text: str) -> str:
    """Text as it is compared: NFKC, without the difference of upper and lower case, and no blanks around it."""
    if text.isascii():
        return text.lower().strip()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()


def tokens(text: str) -> list[str]:
    """The words of a text, in order.

    Latin words and numbers are words, plurals like their singular. A run of Chinese, Japanese or Korean characters
    gives its overlapping pairs, a run of one character that character.
    """
    return [word for run, pairs in _runs(text) for word in pairs or [run]]


def indexed_words(text: str) -> list[str]:
    """The words an item is found by: its tokens, and for queries of one character the characters of its CJK runs."""
    return [word for run, pairs in _runs(text) for word in ([*pairs, *run] if pairs else [run])]


def _runs(text: str) -> Iterable[tuple[str, list[str]]]:
    """Words with no pairs, and CJK runs of two characters and more with their pairs."""
    for run, word in _RUN.findall(_APOSTROPHE.sub("", fold(text))):
        if word:
            yield _singular(word[:WORD_LENGTH]), []
        else:
            yield run, [run[at : at + 2] for at in range(len(run) - 1)]


def _singular(word: str) -> str:
    """An English word without its plural ending; the singular of one that has such an ending loses it too.

    What comes out is a key and need not be a word: cookies and cookie both become cooky.
    """
    if len(word) < 4 or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) >= 5:
        if word.endswith("ie"):
            return word[:-2] + "y"
        if word.endswith(("ve", "fe")):
            return word[:-2] + "f"
        if word.endswith("oe"):
            return word[:-1]
    if len(word) >= 4 and word.endswith(("che", "she", "sse", "xe", "ze")):
        return word[:-1]
    return word


def item_fields(title: str, description: str, categories: Sequence[str], brand: str) -> tuple[Field, Field]:
    """What search looks at of an item."""
    others = " \n ".join((description, *categories, brand))
    return (title[:LONGEST_TEXT], TITLE), (others[:LONGEST_TEXT], OTHER)


def index_words(documents: Iterable[Sequence[Field]]) -> Postings | None:
    """The words of N documents, each given as fields, with what a word adds to the score of a document it is in.

    BM25 (Robertson and Zaragoza, 2009) over weighted fields (Robertson, Zaragoza and Taylor, CIKM 2004): a word's count
    and a document's length are the sums over its fields, each times the field's weight. None without any word.
    """
    numbers: dict[str, int] = {}
    words, rows, counts, lengths = array("i"), array("i"), array("f"), array("f")
    for number, fields in enumerate(documents):
        found = _counted(fields)
        lengths.append(sum(found.values()))
        for word, count in found.items():
            words.append(numbers.setdefault(word, len(numbers)))
            rows.append(number)
            counts.append(count)
    if not numbers:
        return None
    of_word = np.frombuffer(words, np.int32)
    of_row = np.frombuffer(rows, np.int32)
    held = np.frombuffer(counts, np.float32)
    length = np.frombuffer(lengths, np.float32)
    holders = np.bincount(of_word)
    rarity = np.log1p((len(length) - holders + 0.5) / (holders + 0.5))
    slack = K1 * (1.0 - B + B * length / length.mean())
    impacts = rarity[of_word] * held * (K1 + 1.0) / (held + slack[of_row])
    postings = _postings(list(numbers), of_word, of_row, impacts.astype(np.float32))
    return replace(postings, mean_length=float(length.mean()))


def _counted(fields: Iterable[Field]) -> dict[str, float]:
    """The words of a document, each with the sum of the weights of the fields it is in, once for each time it is."""
    found: dict[str, float] = {}
    for text, weight in fields:
        for word in indexed_words(text):
            found[word] = found.get(word, 0.0) + weight
    return found


def later_words(documents: Sequence[Sequence[Field]], rows: Int32, words: Postings, items: int) -> Postings:
    """The words of documents that came after an index of `items` was made, those of document i for row rows[i] (i32).

    Their weights go by the rarities and the length of texts that the index knows.
    """
    names: dict[str, int] = {}
    codes, places, weights = array("i"), array("i"), array("f")
    for number, fields in enumerate(documents):
        counts = _counted(fields)
        slack = K1 * (1.0 - B + B * sum(counts.values()) / (words.mean_length or 1.0))
        for word, count in counts.items():
            codes.append(names.setdefault(word, len(names)))
            places.append(number)
            weights.append(count * (K1 + 1.0) / (count + slack))
    known = words.words.find_many(list(names))
    safe = np.maximum(known, 0)
    holders = np.where(known >= 0, words.offsets[safe + 1] - words.offsets[safe], 1) if len(words.words) else 1
    rarity = np.broadcast_to(np.log1p(np.maximum(items - holders + 0.5, 0.5) / (holders + 0.5)), len(names))
    of_word = np.frombuffer(codes, np.int32)
    of_document = np.frombuffer(places, np.int32)
    impacts = rarity[of_word] * np.frombuffer(weights, np.float32)
    return _postings(list(names), of_word, rows[of_document], impacts.astype(np.float32))


def joined(first: Postings, second: Postings, dropped: Int32) -> Postings:
    """The entries of two indexes, those of the first but for rows in `dropped` (i32 ascending).

    Words that have no entry any more are left out when they are the most.
    """
    known = first.words.find_many(list(_names(second.words)))
    new = np.flatnonzero(known < 0)
    words = first.words.extended([second.words[word] for word in new.tolist()]) if len(new) else first.words
    known[new] = len(first.words) + np.arange(len(new))
    old_codes = np.repeat(np.arange(len(first.words), dtype=np.int32), np.diff(first.offsets))
    kept = ~places(dropped, first.rows)[1] if len(dropped) else np.ones(len(first.rows), np.bool_)
    new_codes = np.repeat(known, np.diff(second.offsets))
    codes = np.concatenate([old_codes[kept], new_codes]).astype(np.int32)
    used = np.unique(codes)
    if mostly_unused(len(used), len(words)):
        words, codes = (
            IdTable.of([words[word] for word in used.tolist()]),
            np.searchsorted(used, codes).astype(np.int32),
        )
    return _gathered(
        words,
        codes,
        np.concatenate([first.rows[kept], second.rows]),
        np.concatenate([first.weights[kept], second.weights]),
    )


def _names(words: IdTable) -> list[str]:
    return [words[word] for word in range(len(words))]


def index_categories(paths: Iterable[Sequence[str]], popularity: Float32) -> Postings | None:
    """Every category on the paths of N items with the items in it, the most popular (popularity f32[N]) first.

    Categories that differ in case only are one. None without any.
    """
    numbers: dict[str, int] = {}
    categories, rows = array("i"), array("i")
    for row, path in enumerate(paths):
        for name in dict.fromkeys(fold(category) for category in path):
            if name:
                categories.append(numbers.setdefault(name, len(numbers)))
                rows.append(row)
    if not numbers:
        return None
    of_row = np.frombuffer(rows, np.int32)
    return _postings(list(numbers), np.frombuffer(categories, np.int32), of_row, popularity[of_row])


def reweighted(postings: Postings, weights: Float32) -> Postings | None:
    """The same words with those of their items whose weight (weights f32[N]) is above 0, the largest first.

    None when no item is left.
    """
    codes = np.repeat(np.arange(len(postings.words), dtype=np.int32), np.diff(postings.offsets))
    kept = weights[postings.rows] > 0
    if not kept.any():
        return None
    codes, rows = codes[kept], postings.rows[kept]
    return _gathered(postings.words, codes, rows, weights[rows])


def category_trends(trending: Trending | None, categories: Postings | None, count: int) -> Postings | None:
    """Of each category of `count` items those that trend, the most so first; None without either."""
    if trending is None or categories is None:
        return None
    scores = np.zeros(count, np.float32)
    scores[trending.rows] = trending.scores
    return reweighted(categories, scores)


def _postings(names: Sequence[str], codes: Int32, rows: Int32, weights: Float32) -> Postings:
    return _gathered(IdTable.of(names), codes, rows, weights)


def _gathered(words: IdTable, codes: Int32, rows: Int32, weights: Float32) -> Postings:
    """Gather entries by word, the largest weight first, ties by row."""
    order = np.lexsort((rows, -weights, codes))
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=len(words)), out=offsets[1:])
    return Postings(words, offsets, rows[order], weights[order].astype(np.float32))


def search(text: str, words: Postings, k: int) -> tuple[Int64, Float32]:
    """The k items that fit a query best: rows i64[<= k] and scores f32[<= k], best first, ties by row.

    An item's score is the sum of what the query's words add, times the share of them that it has: of two items the
    one that has more of the words comes first unless they hardly tell.
    """
    asked = list(dict.fromkeys(tokens(text)))[:QUERY_WORDS]
    sums = _sums(asked, words)
    sums[words.stale[words.stale < len(sums)]] = 0.0
    if words.newer is not None:
        later = _sums(asked, words.newer)
        sums = np.pad(sums, (0, max(len(later) - len(sums), 0)))
        sums[: len(later)] += later
    fits = np.flatnonzero(sums) if k > 0 else np.empty(0, np.int64)
    if not len(fits):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores = sums[fits] / len(asked)
    if len(fits) > k:
        best = scores >= np.partition(scores, -k)[-k]
        fits, scores = fits[best], scores[best]
    order = np.argsort(-scores, kind="stable")[:k]
    return fits[order], scores[order].astype(np.float32)


def _sums(asked: Sequence[str], words: Postings) -> Float64:
    """What words add to each row, times the number of them it has: f64 up to the last row that has any."""
    found = words.words.find_many(asked)
    spans = [slice(int(words.offsets[word]), int(words.offsets[word + 1])) for word in found if word >= 0]
    if not spans:
        return np.empty(0, np.float64)
    rows = np.concatenate([words.rows[span] for span in spans])
    weights = np.concatenate([words.weights[span] for span in spans])
    sums = np.bincount(rows, weights).astype(np.float64, copy=False)
    if len(spans) > 1:
        sums *= np.bincount(rows)
    return sums


def entries(name: str, postings: Postings, k: int) -> tuple[Int32, Float32]:
    """The k items of a word (as it stands in the index) of the largest weights: rows i32[<= k], weights f32[<= k]."""
    word = postings.words.find(name)
    span = slice(int(postings.offsets[word]), int(postings.offsets[word + 1])) if word >= 0 else slice(0)
    rows, weights = postings.rows[span], postings.weights[span]
    if not len(postings.stale):
        return rows[:k], weights[:k]
    reach = k + 64
    while True:
        fresh = np.flatnonzero(~places(postings.stale, rows[:reach])[1])[:k]
        if len(fresh) >= k or reach >= len(rows):
            break
        reach *= 2
    if postings.newer is None:
        return rows[fresh], weights[fresh]
    more, said = entries(name, postings.newer, len(postings.newer.rows))
    rows, weights = np.concatenate([rows[fresh], more]), np.concatenate([weights[fresh], said])
    order = np.lexsort((rows, -weights))[:k]
    return rows[order], weights[order]


def known_words(names: Sequence[str], postings: Postings) -> list[bool]:
    """Whether each name stands in the index."""
    newer = postings.newer
    later = [False] * len(names) if newer is None else (newer.words.find_many(names) >= 0).tolist()
    return [a >= 0 or b for a, b in zip(postings.words.find_many(names).tolist(), later, strict=True)]


def category_items(name: str, categories: Postings, k: int) -> Int32:
    """The k most popular items of a category, i32[<= k]; none when there is no such category."""
    return entries(fold(name), categories, k)[0]


def first_category(names: Sequence[str], categories: Postings, k: int) -> tuple[str, Int64, Float32]:
    """The first category that has items: its name, its k items of the largest weights i64[<= k], the weights f32[<= k].

    "" and nothing when none has.
    """
    for name in names:
        rows, weights = entries(fold(name), categories, k)
        if len(rows):
            return name, rows.astype(np.int64), weights
    return "", np.empty(0, np.int64), np.empty(0, np.float32)

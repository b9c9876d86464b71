"""Turn the Online Retail data set into the two files that training and the builder read: events and catalogue.

Run it as a script (`python prepare.py OUT [--shift-weeks N]`) or call `prepare`.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("online_retail.parquet")
EVENTS = "events.parquet"
CATALOGUE = "catalogue.parquet"
GOODS = r"^(\d{5}|DCGS|PADS)"
"""Stock codes of goods. What else there is: postage, carriage, fees, discounts, samples, vouchers, manual entries."""
WEEK_MS = 7 * 24 * 3600 * 1000

# Product nouns found in the titles, under the category they make. English puts the noun last ("ceramic cake stand"),
# so the last one in a title counts, up to a "with" or "for".
_NOUNS = {
    ("Bags", "Bags"): "bag bags shopper handbag washbag backpack rucksack satchel",
    ("Bags", "Purses and cases"): "purse wallet case",
    ("Kitchen", "Lunch boxes and bottles"): "lunchbox flask",
    ("Kitchen", "Mugs, cups and teapots"): "mug mugs cup cups teacup teacups saucer beaker beakers teapot jug tumbler",
    ("Kitchen", "Plates, bowls and trays"): "plate plates bowl bowls dish tray trays platter saucers eggcup eggcups",
    ("Kitchen", "Cutlery and tableware"): "cutlery spoon spoons fork spatula whisk chopsticks ladle straws coaster "
    "coasters placemat placemats tablecloth napkin napkins doily doilies",
    ("Kitchen", "Baking and cake stands"): "cakestand stand cases mould moulds cutters cutter baking pan",
    ("Kitchen", "Kitchen textiles"): "apron aprons towel towels glove gloves oven cosy",
    ("Kitchen", "Tins, jars and storage"): "tin tins jar jars canister storage bin crate basket baskets",
    ("Home", "Boxes and drawers"): "box boxes drawer drawers cabinet chest trinket organiser",
    ("Home", "Candles and incense"): "candle candles incense fragrance",
    ("Home", "Candle holders and lanterns"): "holder holders candleholder candlestick lantern lanterns",
    ("Home", "Lamps and lights"): "light lights lamp lampshade chandelier nightlight torch",
    (
        "Home",
        "Signs and wall art",
    ): "sign signs plaque art letter letters tile tiles thermometer chalkboard blackboard noticeboard",
    ("Home", "Frames and mirrors"): "frame frames mirror mirrors",
    ("Home", "Clocks"): "clock clocks",
    ("Home", "Cushions and throws"): "cushion cushions throw quilt blanket curtain curtains",
    ("Home", "Hooks, knobs and hangers"): "hook hooks knob knobs hanger hangers rack",
    ("Home", "Doormats and doorstops"): "doormat doormats doorstop mat",
    ("Home", "Decorations"): "decoration decorations ornament wreath garland garlands bunting bell bells "
    "bauble baubles angel",
    ("Home", "Hot water bottles and warmers"): "bottle warmer warmers",
    ("Garden", "Garden"): "garden planter watering gnome birdhouse feeder spade trowel bucket pot pots",
    ("Jewellery", "Necklaces"): "necklace necklaces neckl pendant",
    ("Jewellery", "Bracelets and rings"): "bracelet bracelets bangle bangles ring rings",
    ("Jewellery", "Earrings and brooches"): "earring earrings brooch",
    ("Jewellery", "Charms and hair"): "charm charms hairclip hairclips hair slide hairband clip clips keyring",
    ("Stationery", "Cards and postcards"): "card cards postcard postcards",
    ("Stationery", "Wrap, tags and ribbons"): "wrap ribbon ribbons tape tag tags tissue",
    ("Stationery", "Notebooks and journals"): "notebook notebooks sketchbook journal diary notepad memo calendar album "
    "passport book",
    ("Stationery", "Pens and pencils"): "pen pens pencil pencils crayons chalk chalks eraser erasers ruler sharpener",
    ("Stationery", "Stickers, magnets and stamps"): "sticker stickers magnet magnets stamp stamps",
    ("Toys", "Toys and games"): "toy toys doll dolls dollcraft jigsaw puzzle game games skittles dominoes blocks "
    "snap spinning rope ball harmonica playhouse puppet ludo",
    ("Toys", "Craft kits"): "kit kits craft feltcraft sewing knitting",
    ("Party", "Party"): "party balloon balloons candy cracker confetti cones invites picks fan parasol parasols",
    ("Personal care", "Tissues and bathroom"): "tissues soap bath bathroom sponge plasters plaster",
    ("Personal care", "Umbrellas and rain"): "umbrella umbrellas poncho raincoat",
}
_CATEGORY_OF = {noun: path for path, nouns in _NOUNS.items() for noun in nouns.split()}
_SMALL_WORDS = {"and", "of", "in", "with", "on", "the", "a", "for", "to", "or"}


@dataclass(frozen=True)
class Counts:
    """Where the lines of the source went, and what came out."""

    lines: int
    not_goods: int
    """Lines of postage, fees, vouchers and the like."""
    guests: int
    """Lines of goods without a customer number."""
    not_sales: int
    """Lines of goods of a customer with no price."""
    sales: int
    cancellations: int
    """Lines of goods that a customer gave back, all of them."""
    cancellations_matched: int
    """Those whose units were all found among the same customer's earlier purchases of the same item."""
    cancellations_partly_matched: int
    cancellations_unmatched: int
    sales_taken_back: int
    """Sales of which no unit was left."""
    events: int
    """Purchases: what was left of the sales, an item counted once per invoice."""
    users: int
    items: int


@dataclass
class _Sales:
    """Lines of sales in time order; `left` is the number of units not given back."""

    invoice: NDArray[np.object_]
    item: NDArray[np.object_]
    title: NDArray[np.object_]
    user: NDArray[np.int64]
    time: NDArray[np.int64]
    price: NDArray[np.float64]
    left: NDArray[np.int64]


def prepare(out: Path, source: Path = SOURCE, shift_weeks: int = 0) -> Counts:
    """Write events.parquet and catalogue.parquet into the directory `out`, and say where every line went.

    All times move by whole weeks, `shift_weeks`, so that a day of 2011 can become the same weekday of this week.
    The shop's local times are taken as UTC.
    """
    lines = pq.read_table(source)
    goods = lines.filter(pc.match_substring_regex(lines["stock_code"], GOODS))
    known = goods.filter(pc.is_valid(goods["customer_id"]))
    given_back = known.filter(pc.starts_with(known["invoice_no"], "C"))
    sold = known.filter(
        pc.and_(
            pc.invert(pc.starts_with(known["invoice_no"], "C")),
            pc.and_(pc.greater(known["quantity"], 0), pc.greater(known["unit_price"], 0)),
        )
    )
    sales = _sales(sold)
    matched = _take_back(sales, _sales(given_back))
    events = _events(sales, shift_weeks)
    catalogue = _catalogue(sales)
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(events, out / EVENTS)
    pq.write_table(catalogue, out / CATALOGUE)
    return Counts(
        lines=len(lines),
        not_goods=len(lines) - len(goods),
        guests=len(goods) - len(known),
        not_sales=len(known) - len(given_back) - len(sold),
        sales=len(sold),
        cancellations=len(given_back),
        cancellations_matched=matched["all"],
        cancellations_partly_matched=matched["some"],
        cancellations_unmatched=matched["none"],
        sales_taken_back=int((sales.left == 0).sum()),
        events=len(events),
        users=len(pc.unique(events["user_id"])),
        items=len(catalogue),
    )


def _sales(lines: pa.Table) -> _Sales:
    time = lines["invoice_date"].cast(pa.int64()).to_numpy()
    order = np.argsort(time, kind="stable")

    def column(name: str) -> NDArray[np.object_]:
        return lines[name].to_numpy()[order]

    return _Sales(
        invoice=column("invoice_no"),
        item=pc.utf8_upper(lines["stock_code"]).to_numpy()[order],
        title=column("description"),
        user=lines["customer_id"].to_numpy().astype(np.int64)[order],
        time=time[order],
        price=lines["unit_price"].to_numpy()[order],
        left=np.abs(lines["quantity"].to_numpy().astype(np.int64))[order],
    )


def _take_back(sales: _Sales, given_back: _Sales) -> Counter[str]:
    """Take units given back off the newest earlier sales of the same item to the same customer; count how it went."""
    wanted = set(zip(given_back.user, given_back.item, strict=True))
    of_pair: dict[tuple[int, str], list[int]] = defaultdict(list)
    for at, pair in enumerate(zip(sales.user, sales.item, strict=True)):
        if pair in wanted:
            of_pair[pair].append(at)
    matched: Counter[str] = Counter()
    for at, pair in enumerate(zip(given_back.user, given_back.item, strict=True)):
        units = open_units = int(given_back.left[at])
        for sale in reversed(of_pair[pair]):
            if open_units and sales.time[sale] <= given_back.time[at]:
                taken = min(open_units, int(sales.left[sale]))
                sales.left[sale] -= taken
                open_units -= taken
        matched["all" if open_units == 0 else "none" if open_units == units else "some"] += 1
    return matched


def _events(sales: _Sales, shift_weeks: int) -> pa.Table:
    kept = sales.left > 0
    lines = pa.table(
        {
            "user_id": pa.array(sales.user[kept]).cast(pa.string()),
            "item_id": pa.array(sales.item[kept], pa.string()),
            "invoice": pa.array(sales.invoice[kept], pa.string()),
            "timestamp": sales.time[kept] + shift_weeks * WEEK_MS,
            "value": sales.left[kept] * sales.price[kept],
        }
    )
    purchases = lines.group_by(["user_id", "item_id", "invoice"], use_threads=False).aggregate(
        [("timestamp", "min"), ("value", "sum")]
    )
    events = pa.table(
        {
            "user_id": purchases["user_id"],
            "item_id": purchases["item_id"],
            "timestamp": purchases["timestamp_min"].cast(pa.timestamp("ms", "UTC")),
            "event_type": pa.repeat(pa.scalar("purchase"), len(purchases)),
            "value": pc.round(purchases["value_sum"], 3),
        }
    )
    return events.sort_by([("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])


def _catalogue(sales: _Sales) -> pa.Table:
    """One row per item that was bought and kept: its commonest title, median price, and what its code and title say."""
    kept = np.flatnonzero(sales.left > 0)
    order = kept[np.argsort(sales.item[kept].astype(str), kind="stable")]
    ids, starts = np.unique(sales.item[order].astype(str), return_index=True)
    of_item = np.split(order, starts[1:])
    titles = [nice_title(_commonest(sales.title[rows])) for rows in of_item]
    return pa.table(
        {
            "id": pa.array(ids.tolist(), pa.string()),
            "title": pa.array(titles, pa.string()),
            "price": [round(float(np.median(sales.price[rows])), 3) for rows in of_item],
            "currency": pa.repeat(pa.scalar("GBP"), len(ids)),
            "family": pa.array([re.sub(r"[A-Z]+$", "", code) or code for code in ids.tolist()], pa.string()),
            "categories": pa.array([categories(title) for title in titles], pa.list_(pa.string())),
        }
    )


def _commonest(titles: NDArray[np.object_]) -> str:
    """The commonest title, spaces tidied; among equals the latest."""
    tidied = [" ".join(title.split()) for title in titles if title]
    return Counter(tidied[::-1]).most_common(1)[0][0]


def nice_title(title: str) -> str:
    """A title of the shop, all capitals, as people write it: "SET/6 RED SPOTTY CUPS" -> "Set/6 Red Spotty Cups"."""
    words = [word.lower() if word.lower() in _SMALL_WORDS else _capitals(word) for word in title.split()]
    return " ".join([_capitals(words[0]), *words[1:]])


def _capitals(word: str) -> str:
    return re.sub(r"(?<![a-z'])[a-z]", lambda letter: letter[0].upper(), word.lower())


def categories(title: str) -> list[str]:
    """The category of a title, broad to narrow, by the product noun in it; empty where it has none we know."""
    words = re.findall(r"[a-z]+", re.split(r"\b(?:with|w|for)\b", title.lower())[0])
    found = next((_CATEGORY_OF[word] for word in reversed(words) if word in _CATEGORY_OF), None)
    return [] if found is None else list(dict.fromkeys(found))


def main() -> None:
    """Prepare the data set from the command line and print the counts as JSON."""
    parser = argparse.ArgumentParser(description="Turn the Online Retail data set into events and a catalogue.")
    parser.add_argument("out", type=Path, help="directory for events.parquet and catalogue.parquet")
    parser.add_argument("--shift-weeks", type=int, default=0, help="move all times by whole weeks")
    options = parser.parse_args()
    print(json.dumps(asdict(prepare(options.out, shift_weeks=options.shift_weeks)), indent=2))


if __name__ == "__main__":
    main()

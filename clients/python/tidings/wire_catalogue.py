"""Between the client's values and the wire: items of the catalogue."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from tidings import errors, model, wire, wire_attributes
from tidings.v1 import catalog_service_pb2

MAX_ITEMS = 1000
"""So many items go in one call."""
_TEXTS = ("title", "description", "brand", "currency", "image_url", "url")


def upsert_request(
    items: model.CatalogItem | Iterable[model.CatalogItem], only: Sequence[str]
) -> catalog_service_pb2.UpsertItemsRequest:
    """Return the request to upsert items; raises InvalidArgument with all fields of all items that cannot be sent."""
    listed = [items] if isinstance(items, model.CatalogItem) else list(items)
    if isinstance(only, str):
        raise wire.unfit("only", only, 'a list of names is wanted, such as ["price"]')
    request = catalog_service_pb2.UpsertItemsRequest()
    request.update_mask.paths.extend(only)
    faults: list[tuple[str, str]] = []
    for at, item in enumerate(listed):
        try:
            request.items.append(_message(item, f"items[{at}]."))
        except errors.InvalidArgument as error:
            faults.extend(error.fields)
    if faults:
        raise errors.InvalidArgument("; ".join(f"{field} {problem}" for field, problem in faults), fields=faults)
    return request


def delete_request(item_ids: str | Iterable[str], update_time: datetime) -> catalog_service_pb2.DeleteItemsRequest:
    """Return the request to delete one item or many."""
    request = catalog_service_pb2.DeleteItemsRequest()
    wire.fill_ids(request, "item_ids", [item_ids] if isinstance(item_ids, str) else list(item_ids))
    wire.fill_time(request, "update_time", update_time)
    return request


def get_request(item_id: str, consistency_token: str) -> catalog_service_pb2.GetItemRequest:
    """Return the request for an item."""
    request = catalog_service_pb2.GetItemRequest()
    wire.fill(request, "item_id", item_id)
    wire.fill(request, "consistency_token", consistency_token)
    return request


def upserted(message: catalog_service_pb2.UpsertItemsResponse) -> model.Upserted:
    """Return what became of upserted items."""
    results = tuple(_UPSERTED.get(result, model.UpsertResult.UNSPECIFIED) for result in message.results)
    return model.Upserted(results, message.consistency_token)


def deleted(message: catalog_service_pb2.DeleteItemsResponse) -> model.Deleted:
    """Return what became of ids to delete."""
    results = tuple(_DELETED.get(result, model.DeleteResult.UNSPECIFIED) for result in message.results)
    return model.Deleted(results, message.consistency_token)


def catalog_item(message: catalog_service_pb2.CatalogItem) -> model.CatalogItem:
    """Return an item of the catalogue."""
    item = message.item
    return model.CatalogItem(
        item_id=item.item_id,
        update_time=wire.time_of(message, "update_time"),
        title=item.title,
        description=item.description,
        categories=tuple(item.categories),
        brand=item.brand,
        price=item.price if item.HasField("price") else None,
        currency=item.currency,
        image_url=item.image_url,
        url=item.url,
        publish_time=wire.time_of(item, "publish_time"),
        expire_time=wire.time_of(item, "expire_time"),
        shown=dict(item.attributes),
        attributes={name: wire_attributes.value(value) for name, value in message.attributes.items()},
        available=message.available if message.HasField("available") else None,
        stock=message.stock if message.HasField("stock") else None,
        vector=tuple(message.vector),
    )


def _message(value: model.CatalogItem, prefix: str) -> catalog_service_pb2.CatalogItem:
    if not isinstance(value, model.CatalogItem):
        raise wire.unfit(prefix.rstrip("."), value, "a tidings.CatalogItem is wanted")
    message = catalog_service_pb2.CatalogItem()
    inner = prefix + "item."
    wire.fill(message.item, "item_id", value.item_id, inner)
    for name in _TEXTS:
        wire.fill(message.item, name, getattr(value, name), inner)
    wire.fill_ids(message.item, "categories", value.categories, inner)
    if value.price is not None:
        wire.fill(message.item, "price", value.price, inner)
    for name in ("publish_time", "expire_time"):
        wire.fill_time(message.item, name, getattr(value, name), inner)
    for name, text in value.shown.items():
        try:
            message.item.attributes[name] = text
        except (TypeError, ValueError) as error:
            raise wire.unfit(f"{inner}attributes[{name}]", text, str(error)) from error
    for name, one in value.attributes.items():
        wire_attributes.fill(message.attributes, name, one, f"{prefix}attributes[{name}]")
    for name in ("available", "stock"):
        if getattr(value, name) is not None:
            wire.fill(message, name, getattr(value, name), prefix)
    try:
        message.vector.extend(value.vector)
    except (TypeError, ValueError) as error:
        raise wire.unfit(prefix + "vector", value.vector, str(error)) from error
    wire.fill_time(message, "update_time", value.update_time, prefix)
    return message


_UPSERTED = wire.by_number(catalog_service_pb2.UpsertResult, model.UpsertResult)
_DELETED = wire.by_number(catalog_service_pb2.DeleteResult, model.DeleteResult)

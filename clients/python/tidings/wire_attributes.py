"""Between the client's values and the wire: values of attributes, of items and of users."""

from collections.abc import MutableMapping
from datetime import UTC, date, datetime

from tidings import model, wire
from tidings.v1 import attribute_pb2


def fill(
    messages: MutableMapping[str, attribute_pb2.AttributeValue], name: str, given: model.AttributeValue, place: str
) -> None:
    """Set the value of a name in a map of values; raises InvalidArgument naming the place when it cannot be sent."""
    try:
        target = messages[name]
        match given:
            case bool():
                target.flag = given
            case str():
                target.text = given
            case int() | float():
                target.number = given
            case datetime():
                if given.utcoffset() is None:
                    raise ValueError("a datetime with a time zone is wanted")
                target.time.FromDatetime(given.astimezone(UTC))
            case date():
                target.text = given.isoformat()
            case _:
                target.texts.values.extend(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise wire.unfit(place, given, str(error)) from error


def value(message: attribute_pb2.AttributeValue) -> model.AttributeValue:
    """Return a value; a day comes as the text that it is sent as."""
    match message.WhichOneof("value"):
        case "texts":
            return tuple(message.texts.values)
        case "time":
            return message.time.ToDatetime(tzinfo=UTC)
        case "number":
            return message.number
        case "flag":
            return message.flag
    return message.text

"""Messages for a server to stumble over: valid ones made from their descriptors, and what can be done to them."""

import math
import random
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import tidings.v1

DEPTH = 4
"""Messages within messages that are made."""
HUGE = 200_000
"""Bytes of a text that is far too long."""
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**32 - 1, 2**64 - 1, 1000, 1001)
REALS = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.1, 1e15)
TEXTS = (
    "",
    " ",
    "\x00",
    "a\nb",
    "\x7f\x85",
    "\u202e\u200b",
    "手机" * 50,
    "'; DROP TABLE users; --",
    "../../etc/passwd",
    "{{ 7 * 7 }}",
    "NaN",
    "-1",
    "\U0010ffff",
)
_LENGTH = {1: 8, 5: 4}


def rpcs() -> list[MethodDescriptor]:
    """Every RPC there is, in the order of names."""
    modules = sorted(
        module.name for module in iter_modules(tidings.v1.__path__) if module.name.endswith("_service_pb2")
    )
    found: list[MethodDescriptor] = []
    for name in modules:
        for service in import_module(f"tidings.v1.{name}").DESCRIPTOR.services_by_name.values():
            found += service.methods
    return sorted(found, key=lambda rpc: rpc.full_name)


def requests_of(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Message]]:
    """Requests made of fields, by RPC. An RPC that is no more has none."""
    classes = {rpc.name: GetMessageClass(rpc.input_type) for rpc in rpcs()}
    return {name: [classes[name](**one) for one in given] for name, given in examples.items() if name in classes}


@dataclass(frozen=True)
class Fuzz:
    """Makes messages by a dice.

    `known` are texts that mean something to the server, by the end of a field's name; `examples` are requests that it
    answers, by RPC. One that has none is made up from the descriptor alone.
    """

    dice: random.Random
    known: Mapping[str, Sequence[str]]
    examples: Mapping[str, Sequence[Message]]

    def request(self, rpc: MethodDescriptor) -> bytes:
        """The bytes of a request: as it should be, or with something done to it."""
        descriptor = rpc.input_type
        message = self.message(descriptor)
        examples = self.examples.get(rpc.name)
        if examples and self.dice.random() < 0.6:
            message = GetMessageClass(descriptor)()
            message.CopyFrom(self.dice.choice(examples))
        how = self.dice.random()
        if how < 0.3:
            return message.SerializeToString()
        if how < 0.7:
            for _ in range(self.dice.choice((1, 1, 2, 5))):
                self._twist(message)
            return message.SerializeToString()
        if how < 0.78:
            return self._nested(descriptor, message.SerializeToString())
        content = message.SerializeToString()
        for _ in range(self.dice.choice((1, 1, 3))):
            content = self._bytes(content)
        return content

    def message(self, descriptor: Descriptor, depth: int = DEPTH) -> Message:
        """A message whose fields mean something."""
        message = GetMessageClass(descriptor)()
        share = self.dice.choice((0.1, 0.4, 0.9))
        for oneof in descriptor.oneofs:
            # Later fields of a oneof would clear those before: one of them is enough.
            self._fill(message, self.dice.choice(oneof.fields), depth)
        for field in descriptor.fields:
            if field.containing_oneof is None and (field.name.endswith("_id") or self.dice.random() < share):
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        values = getattr(message, field.name)
        if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._fill_map(values, field.message_type, depth)
        elif field.is_repeated:
            for _ in range(self.dice.choice((0, 1, 1, 2, 3, 8))):
                if field.message_type is None:
                    values.append(self._scalar(field))
                elif depth:
                    values.add().CopyFrom(self.message(field.message_type, depth - 1))
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            values.FromMicroseconds(int((time.time() + self.dice.uniform(-86_400, 200)) * 1e6))
        elif field.message_type.full_name == "google.protobuf.Duration":
            values.FromMilliseconds(self.dice.randrange(100_000))
        elif depth:
            values.SetInParent()
            values.CopyFrom(self.message(field.message_type, depth - 1))

    def _fill_map(self, values: Any, entry: Descriptor, depth: int) -> None:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for _ in range(self.dice.choice((0, 1, 2))):
            if value.message_type is None:
                values[self._scalar(key)] = self._scalar(value)
            elif depth:
                values[self._scalar(key)].CopyFrom(self.message(value.message_type, depth - 1))

    def _scalar(self, field: Any) -> Any:
        dice = self.dice
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return dice.randbytes(dice.choice((0, 16, 100)))
            case FieldDescriptor.CPPTYPE_STRING:
                return dice.choice(self._texts(field.name))
            case FieldDescriptor.CPPTYPE_ENUM:
                return dice.choice(field.enum_type.values).number
            case FieldDescriptor.CPPTYPE_BOOL:
                return dice.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return dice.choice((0.0, 0.5, 1.0, 3.0, 19.99, float(dice.randrange(100))))
        return dice.choice((0, 1, 2, 5, 10, 30))

    def _texts(self, name: str) -> Sequence[str]:
        return next((texts for end, texts in self.known.items() if name.endswith(end)), self.known[""])

    def _twist(self, message: Message) -> None:
        """Set one field, somewhere in a message, to what nobody expects there."""
        inside = [message, *_within(message)]
        target = self.dice.choice(inside)
        fields = target.DESCRIPTOR.fields
        if not fields:
            return
        field: Any = self.dice.choice(fields)
        mapped = field.message_type is not None and field.message_type.GetOptions().map_entry
        if mapped:
            self._many_keys(getattr(target, field.name), field.message_type)
        elif field.message_type is not None:
            self._odd_message(target, field)
        elif field.is_repeated:
            getattr(target, field.name).extend([self._odd(field)] * self._size(1001))
        else:
            setattr(target, field.name, self._odd(field))

    def _odd_message(self, target: Message, field: Any) -> None:
        values = getattr(target, field.name)
        if field.is_repeated:
            one = self.message(field.message_type, 1)
            values.extend([one] * self._size(300))
        elif self.dice.random() < 0.5:
            target.ClearField(field.name)
        else:
            values.SetInParent()
            for inner in field.message_type.fields:
                if inner.message_type is None and not inner.is_repeated:
                    setattr(values, inner.name, self._odd(inner))

    def _many_keys(self, values: Any, entry: Descriptor) -> None:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for at in range(self._size(2000)):
            name = f"key-{at}" if key.cpp_type == FieldDescriptor.CPPTYPE_STRING else at
            if value.message_type is None:
                values[name] = self._odd(value) if at < 3 else self._scalar(value)
            else:
                values[name].SetInParent()

    def _size(self, many: int) -> int:
        """How many of something: seldom more than there may be."""
        return many if self.dice.random() < 0.05 else self.dice.choice((1, 2, 5))

    def _odd(self, field: Any) -> Any:
        dice = self.dice
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return dice.randbytes(dice.choice((0, 1, 10_000)))
            case FieldDescriptor.CPPTYPE_STRING:
                long = dice.random()
                if long < 0.005:
                    return "x" * HUGE
                return "y" * dice.choice((255, 257, 1025, 5000)) if long < 0.3 else dice.choice(TEXTS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return dice.choice((-1, 77, 2**31 - 1))
            case FieldDescriptor.CPPTYPE_BOOL:
                return True
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return dice.choice(REALS)
            case FieldDescriptor.CPPTYPE_INT32:
                low, high = -(2**31), 2**31 - 1
            case FieldDescriptor.CPPTYPE_UINT32:
                low, high = 0, 2**32 - 1
            case FieldDescriptor.CPPTYPE_UINT64:
                low, high = 0, 2**64 - 1
            case _:
                low, high = -(2**63), 2**63 - 1
        return dice.choice([number for number in EXTREMES if low <= number <= high])

    def _nested(self, descriptor: Descriptor, content: bytes) -> bytes:
        """A message within a message within a message, as deep as it can hold itself, or unknown groups."""
        ring = _ring(descriptor)
        depth = self.dice.choice((5, 40, 99, 101, 400))
        if not ring or self.dice.random() < 0.3:
            # A group that no field is of: 3 begins one, 4 ends it.
            return content + _varint(2000 << 3 | 3) * depth + _varint(2000 << 3 | 4) * depth
        way, circle = ring
        inner = b""
        for _ in range(depth):
            for field in reversed(circle):
                inner = _wrapped(field.number, inner)
        for field in reversed(way):
            inner = _wrapped(field.number, inner)
        return content + inner

    def _bytes(self, content: bytes) -> bytes:
        """Change bytes without knowing what they are."""
        dice = self.dice
        at = dice.randrange(len(content) + 1)
        match dice.randrange(7):
            case 0:
                return content[:at]
            case 1 if at < len(content):
                return content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :]
            case 2:
                return content[:at] + dice.randbytes(dice.choice((1, 4, 40))) + content[at:]
            case 3:
                wire = dice.choice((0, 1, 2, 5))
                number = dice.choice((dice.randrange(1, 30), 19_001, 2**29 - 1))
                if wire == 2:
                    return content + _wrapped(number, dice.randbytes(20))
                return content + _varint(number << 3 | wire) + (b"\x01" if wire == 0 else bytes(_LENGTH[wire]))
            case 4:
                # A length that promises more than there is, and a text that is no UTF-8.
                return content + _varint(1 << 3 | 2) + dice.choice((b"\xff\xff\xff\xff\x0f", b"\x04\xff\xfe\xed\xa0"))
            case 5:
                return content * dice.choice((2, 3))
        return dice.randbytes(dice.choice((1, 10, 300)))


def _within(message: Message) -> Iterator[Message]:
    """The messages that a message holds."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else (value,):
            yield inner
            yield from _within(inner)


def _ring(descriptor: Descriptor) -> tuple[list[FieldDescriptor], list[FieldDescriptor]] | None:
    """The fields that lead to a message that holds itself, and those of the circle; None when there is none."""

    def look(at: Descriptor, way: list[FieldDescriptor], seen: list[Descriptor]) -> Any:
        for field in at.fields:
            inner = field.message_type
            if inner is None:
                continue
            if inner in seen:
                start = seen.index(inner)
                return way[:start], [*way[start:], field]
            found = look(inner, [*way, field], [*seen, inner])
            if found:
                return found
        return None

    found: tuple[list[FieldDescriptor], list[FieldDescriptor]] | None = look(descriptor, [], [descriptor])
    return found


def _wrapped(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + struct.pack("B", number)

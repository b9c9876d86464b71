from tidings.v1 import contact_pb2 as _contact_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterContactRequest(_message.Message):
    __slots__ = ("user_id", "contact")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    contact: _contact_pb2.Contact
    def __init__(self, user_id: _Optional[str] = ..., contact: _Optional[_Union[_contact_pb2.Contact, _Mapping]] = ...) -> None: ...

class RegisterContactResponse(_message.Message):
    __slots__ = ("contact_id", "new", "others", "taken")
    CONTACT_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    contact_id: str
    new: bool
    others: int
    taken: bool
    def __init__(self, contact_id: _Optional[str] = ..., new: bool = ..., others: _Optional[int] = ..., taken: bool = ...) -> None: ...

class RemoveContactRequest(_message.Message):
    __slots__ = ("user_id", "contact_id", "contact")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTACT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    contact_id: str
    contact: _contact_pb2.Contact
    def __init__(self, user_id: _Optional[str] = ..., contact_id: _Optional[str] = ..., contact: _Optional[_Union[_contact_pb2.Contact, _Mapping]] = ...) -> None: ...

class RemoveContactResponse(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: bool
    def __init__(self, removed: bool = ...) -> None: ...

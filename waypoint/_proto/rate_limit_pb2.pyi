from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Unit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[Unit]
    SECOND: _ClassVar[Unit]
    MINUTE: _ClassVar[Unit]
    HOUR: _ClassVar[Unit]
    DAY: _ClassVar[Unit]
    MONTH: _ClassVar[Unit]
    YEAR: _ClassVar[Unit]

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNDECIDED: _ClassVar[Code]
    OK: _ClassVar[Code]
    OVER_LIMIT: _ClassVar[Code]
UNKNOWN: Unit
SECOND: Unit
MINUTE: Unit
HOUR: Unit
DAY: Unit
MONTH: Unit
YEAR: Unit
UNDECIDED: Code
OK: Code
OVER_LIMIT: Code

class RateLimitRequest(_message.Message):
    __slots__ = ("domain", "descriptors")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    domain: str
    descriptors: _containers.RepeatedCompositeFieldContainer[Descriptor]
    def __init__(self, domain: _Optional[str] = ..., descriptors: _Optional[_Iterable[_Union[Descriptor, _Mapping]]] = ...) -> None: ...

class Descriptor(_message.Message):
    __slots__ = ("entries", "limit")
    class Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class Limit(_message.Message):
        __slots__ = ("requests_per_unit", "unit")
        REQUESTS_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
        UNIT_FIELD_NUMBER: _ClassVar[int]
        requests_per_unit: int
        unit: Unit
        def __init__(self, requests_per_unit: _Optional[int] = ..., unit: _Optional[_Union[Unit, str]] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Descriptor.Entry]
    limit: Descriptor.Limit
    def __init__(self, entries: _Optional[_Iterable[_Union[Descriptor.Entry, _Mapping]]] = ..., limit: _Optional[_Union[Descriptor.Limit, _Mapping]] = ...) -> None: ...

class RateLimitResponse(_message.Message):
    __slots__ = ("overall_code", "statuses", "response_headers_to_add", "request_headers_to_add", "raw_body")
    class RateLimit(_message.Message):
        __slots__ = ("requests_per_unit", "unit", "name")
        REQUESTS_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
        UNIT_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        requests_per_unit: int
        unit: Unit
        name: str
        def __init__(self, requests_per_unit: _Optional[int] = ..., unit: _Optional[_Union[Unit, str]] = ..., name: _Optional[str] = ...) -> None: ...
    class Duration(_message.Message):
        __slots__ = ("seconds", "nanos")
        SECONDS_FIELD_NUMBER: _ClassVar[int]
        NANOS_FIELD_NUMBER: _ClassVar[int]
        seconds: int
        nanos: int
        def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...
    class Status(_message.Message):
        __slots__ = ("code", "current_limit", "limit_remaining", "duration_until_reset")
        CODE_FIELD_NUMBER: _ClassVar[int]
        CURRENT_LIMIT_FIELD_NUMBER: _ClassVar[int]
        LIMIT_REMAINING_FIELD_NUMBER: _ClassVar[int]
        DURATION_UNTIL_RESET_FIELD_NUMBER: _ClassVar[int]
        code: Code
        current_limit: RateLimitResponse.RateLimit
        limit_remaining: int
        duration_until_reset: RateLimitResponse.Duration
        def __init__(self, code: _Optional[_Union[Code, str]] = ..., current_limit: _Optional[_Union[RateLimitResponse.RateLimit, _Mapping]] = ..., limit_remaining: _Optional[int] = ..., duration_until_reset: _Optional[_Union[RateLimitResponse.Duration, _Mapping]] = ...) -> None: ...
    class HeaderValue(_message.Message):
        __slots__ = ("key", "value", "raw_value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        RAW_VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        raw_value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., raw_value: _Optional[bytes] = ...) -> None: ...
    OVERALL_CODE_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_HEADERS_TO_ADD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HEADERS_TO_ADD_FIELD_NUMBER: _ClassVar[int]
    RAW_BODY_FIELD_NUMBER: _ClassVar[int]
    overall_code: Code
    statuses: _containers.RepeatedCompositeFieldContainer[RateLimitResponse.Status]
    response_headers_to_add: _containers.RepeatedCompositeFieldContainer[RateLimitResponse.HeaderValue]
    request_headers_to_add: _containers.RepeatedCompositeFieldContainer[RateLimitResponse.HeaderValue]
    raw_body: bytes
    def __init__(self, overall_code: _Optional[_Union[Code, str]] = ..., statuses: _Optional[_Iterable[_Union[RateLimitResponse.Status, _Mapping]]] = ..., response_headers_to_add: _Optional[_Iterable[_Union[RateLimitResponse.HeaderValue, _Mapping]]] = ..., request_headers_to_add: _Optional[_Iterable[_Union[RateLimitResponse.HeaderValue, _Mapping]]] = ..., raw_body: _Optional[bytes] = ...) -> None: ...

"""What each intrinsic function computes, with its documented limits.

Rules: docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html. Where the page is
silent, what was measured on AWS and published by two emulators' projects is used, and said so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable

from shim.asl.values import AslError, Reading, Text, Unknown, Value, known, same

MOST_CHARACTERS = 10_000  # of what is encoded, decoded or hashed
MOST_ELEMENTS = 1_000  # of a range
LARGEST = 2**63 - 1
ALGORITHMS = {
    **{"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256"},
    **{"SHA-384": "sha384", "SHA-512": "sha512"},
}
MIME_LINE = 76


class _Undecided(Exception):  # noqa: N818  # a result, not an error: only a run can decide it
    """The page above does not say what comes out."""


def exists(name: str) -> bool:
    """Return whether there is such a function."""
    return name in ARITY


def apply(
    name: str,
    arguments: list[Value],
    template: tuple[str, ...] | None,
    source: str,
    reading: Reading,
) -> Value:
    """Return a function's value; `template` is what stands between the slots of States.Format.

    Raises AslError where the call would fail with States.IntrinsicFailure.
    """
    least, most = ARITY[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} or more"
        raise AslError(
            f"{name} takes {wanted} arguments, not {len(arguments)}: the call would fail"
        )
    if name == "States.Array":
        return arguments
    if name in ("States.UUID", "States.MathRandom"):
        return Unknown(source)
    try:
        if template is not None:
            return _format(template, arguments[1:], reading)
        if name in OPEN:
            return OPEN[name](arguments, source)
        if not all(map(known, arguments)):
            return Unknown(source)
        if name == "States.Base64Encode":
            return _encode(arguments, reading)
        return CLOSED[name](arguments)
    except _Undecided:
        return Unknown(source)
    except AslError as error:
        raise AslError(f"{source}: {error}; the call would fail") from error


def _format(template: tuple[str, ...], values: list[Value], reading: Reading) -> Value:
    if len(values) != len(template) - 1:
        raise AslError(f"{len(template) - 1} times {{}} and {len(values)} arguments for them")
    parts: list[str | Unknown] = [template[0]]
    for value, text in zip(values, template[1:], strict=True):
        if isinstance(value, Text):
            parts += value.parts
        elif isinstance(value, Unknown):
            parts.append(value)
        else:
            parts.append(_shown(value, reading))
        parts.append(text)
    if any(isinstance(part, Unknown) for part in parts):
        return Text(tuple(part for part in parts if part != ""))
    return "".join(part for part in parts if isinstance(part, str))


def _shown(value: Value, reading: Reading) -> str:
    """Return a value as States.Format writes it.

    "The value must not be a JSON array or object"; recorded on AWS, they come as Java prints them.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        if reading is Reading.DOCUMENTED:
            raise AslError("an object or an array where a text, a number, true or null must stand")
        if not known(value):
            raise _Undecided
        if isinstance(value, list):
            return f"[{', '.join(_shown(item, reading) for item in value)}]"
        return f"{{{', '.join(f'{key}={_shown(item, reading)}' for key, item in value.items())}}}"
    # Outside of these bounds Java writes an exponent, JSON need not: nobody recorded which.
    if isinstance(value, float) and value and not 1e-3 <= abs(value) < 1e7:
        raise _Undecided
    return json.dumps(value)


def _merge(arguments: list[Value], source: str) -> Value:
    first, second, deep = arguments
    if deep is not False:
        raise AslError("the third argument must be false: only shallow merging is supported")
    for value in (first, second):
        if not isinstance(value, dict | Unknown):
            raise AslError("an argument is not an object")
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **second}
    return Unknown(source)


def _item(arguments: list[Value], source: str) -> Value:
    items, index = arguments
    if isinstance(items, Unknown) or not known(index):
        return Unknown(source)
    items, place = _array(items), _integer(index)
    if not 0 <= place < len(items):
        raise AslError(f"there is no element {place} among {len(items)}")
    return items[place]


def _length(arguments: list[Value], source: str) -> Value:
    return Unknown(source) if isinstance(arguments[0], Unknown) else len(_array(arguments[0]))


def _partition(arguments: list[Value], source: str) -> Value:
    if isinstance(arguments[0], Unknown) or not known(arguments[1]):
        return Unknown(source)
    items, size = _array(arguments[0]), _integer(arguments[1])
    if size <= 0:
        raise AslError(f"the size of a chunk must be a positive integer, not {size}")
    return [items[start : start + size] for start in range(0, len(items), size)]


def _contains(arguments: list[Value]) -> Value:
    return any(same(item, arguments[1]) for item in _array(arguments[0]))


def _unique(arguments: list[Value]) -> Value:
    found: list[Value] = []
    for item in _array(arguments[0]):
        if not any(same(item, other) for other in found):
            found.append(item)
    return found


def _range(arguments: list[Value]) -> Value:
    first, last, step = map(_integer, arguments)
    if step == 0:
        raise AslError("the step must not be zero")
    numbers = range(first, last + (1 if step > 0 else -1), step)
    if numbers[MOST_ELEMENTS : MOST_ELEMENTS + 1]:
        raise AslError(f"a range holds at most {MOST_ELEMENTS} elements")
    return list(numbers)


def _encode(arguments: list[Value], reading: Reading) -> Value:
    encoded = base64.b64encode(_bytes(arguments[0])).decode("ascii")
    # "MIME Base64": RFC 2045, 6.8 breaks lines at 76 characters. No emulator does.
    if reading is Reading.OBSERVED:
        return encoded
    starts = range(0, len(encoded), MIME_LINE)
    return "\r\n".join(encoded[start : start + MIME_LINE] for start in starts)


def _decode(arguments: list[Value]) -> Value:
    data = _bytes(arguments[0])
    try:  # measured on AWS: missing padding is accepted
        return base64.b64decode(data + b"=" * (-len(data) % 4)).decode("utf-8")
    except binascii.Error as error:
        raise AslError(f"not Base64 ({error})") from error
    except UnicodeDecodeError as error:
        raise _Undecided from error


def _hash(arguments: list[Value]) -> Value:
    name = arguments[1]
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise AslError(f"the algorithm is one of {', '.join(ALGORITHMS)}")
    return hashlib.new(ALGORITHMS[name], _bytes(arguments[0])).hexdigest()


def _parse(arguments: list[Value]) -> Value:
    text = _text(arguments[0])
    try:
        value: Value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise AslError(f"not JSON ({error})") from error
    return value


def _no_constant(name: str) -> Value:
    raise ValueError(f"{name} is not JSON")


def _print(arguments: list[Value]) -> Value:
    try:
        return json.dumps(arguments[0], separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:  # a number such as 1e999, which became infinite when it was read
        raise _Undecided from error


def _add(arguments: list[Value]) -> Value:
    return sum(map(_integer, arguments))


def _split(arguments: list[Value]) -> Value:
    """Every character of the second text divides; measured on AWS: empty pieces are left out."""
    text, dividers = map(_text, arguments)
    if not dividers:
        raise _Undecided
    pieces = text.translate(dict.fromkeys(map(ord, dividers), dividers[0])).split(dividers[0])
    return [piece for piece in pieces if piece]


def _array(value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise AslError("an argument is not an array")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise AslError("an argument is not text")
    return value


def _bytes(value: Value) -> bytes:
    if len(text := _text(value)) > MOST_CHARACTERS:
        raise AslError(f"{len(text)} characters; at most {MOST_CHARACTERS} are taken")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AslError("half of a surrogate pair, which is no character") from error


def _integer(value: Value) -> int:
    """Return a number; one with a fraction is rounded, halves up, as recorded on AWS."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise AslError("an argument is not an integer")
    return value if isinstance(value, int) else math.floor(value + 0.5)


OPEN: dict[str, Callable[[list[Value], str], Value]] = {
    "States.ArrayGetItem": _item,
    "States.ArrayLength": _length,
    "States.ArrayPartition": _partition,
    "States.JsonMerge": _merge,
}
"""Functions that can be decided although something in their arguments is left to a run."""
CLOSED: dict[str, Callable[[list[Value]], Value]] = {
    "States.ArrayContains": _contains,
    "States.ArrayRange": _range,
    "States.ArrayUnique": _unique,
    "States.Base64Decode": _decode,
    "States.Hash": _hash,
    "States.JsonToString": _print,
    "States.MathAdd": _add,
    "States.StringSplit": _split,
    "States.StringToJson": _parse,
}
ARITY: dict[str, tuple[int, int]] = {
    **{"States.Array": (0, 10_000), "States.Format": (1, 10_000), "States.UUID": (0, 0)},
    **dict.fromkeys(("States.ArrayLength", "States.ArrayUnique"), (1, 1)),
    **dict.fromkeys(("States.Base64Encode", "States.Base64Decode"), (1, 1)),
    **dict.fromkeys(("States.JsonToString", "States.StringToJson"), (1, 1)),
    **dict.fromkeys(("States.ArrayContains", "States.ArrayGetItem"), (2, 2)),
    **dict.fromkeys(("States.ArrayPartition", "States.Hash"), (2, 2)),
    **dict.fromkeys(("States.MathAdd", "States.StringSplit"), (2, 2)),
    **{"States.ArrayRange": (3, 3), "States.JsonMerge": (3, 3), "States.MathRandom": (2, 3)},
}
"""How few and how many arguments each function takes."""

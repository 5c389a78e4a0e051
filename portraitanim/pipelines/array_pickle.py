"""Read a numpy array out of a pickle file without running anything that the file asks for.

A pickle is a small program: it may call any function of any module. Here it may call six, and those are stand-ins of
our own that check their arguments and build plain arrays; numpy's own builders, which accept object arrays, are not
reached. Before that the program is read as text: instructions that make no arrays or plain containers, memo numbers
that would make Python allocate gigabytes, and long chains of nested containers are refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from portraitanim.errors import MediaError
from portraitanim.media.files import existing_file

MAX_BYTES = 1 << 20
"""A frame of landmarks has some 11 kB."""

_MAX_INSTRUCTIONS = 20_000
_MAX_CONTAINERS = 1000
"""Nested deeper than some ten thousand, the interpreter itself would run out of stack."""

_MAX_AXES = 4

_CONTAINER_OPCODES = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_OPCODES = _CONTAINER_OPCODES | {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("BINSTRING", "SHORT_BINSTRING", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_BYTE_ORDERS = {"<", ">", "=", "|"}

_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, OverflowError, RecursionError, MemoryError),
)


class _RefusedError(Exception):
    """The file asks for something that is not admitted."""


def read_array(path: Path) -> np.ndarray:
    """The one array of a pickle file.

    Args:
        path: a pickle of protocol 2 or newer, at most 1 MiB, written by numpy 1 or 2: an array, or lists, tuples and
            dictionaries with a single array among them.

    Raises:
        MediaError: absent, too large, damaged, without an array or with several, or it asks for anything else.
    """
    path = existing_file(path, "landmark")
    if path.stat().st_size > MAX_BYTES:
        raise MediaError(f"{path} is too large for one frame of landmarks: more than {MAX_BYTES} bytes.")
    try:
        data = path.read_bytes()
        _inspect(data)
        content = _ArrayReader(io.BytesIO(data), encoding="latin1").load()
    except _RefusedError as error:
        raise MediaError(
            f"{path} asks for {error}, which a file of landmarks does not need, and is not opened: such a file can do "
            "anything to your computer. Use landmarks from a publisher you trust."
        ) from None
    except _DAMAGE as error:
        reason = ascii(str(error)[:100]).strip("'\"") or type(error).__name__
        raise MediaError(f"{path} is damaged or no pickled array ({reason}). Copy it again.") from None
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}).") from None
    arrays = _arrays(content)
    if len(arrays) != 1:
        raise MediaError(f"{path} holds {len(arrays)} arrays, expected one: the landmarks of one frame.")
    return arrays[0]


def _inspect(data: bytes) -> None:
    """Read the instructions without following them."""
    containers = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in _OPCODES:
            raise _RefusedError(f"the instruction {opcode.name}")
        containers += opcode.name in _CONTAINER_OPCODES
        if number >= _MAX_INSTRUCTIONS or containers > _MAX_CONTAINERS:
            raise _RefusedError("thousands of objects")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > len(data):
            raise _RefusedError("a table of gigabytes")


class _ArrayReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise _RefusedError(ascii(f"{module}.{name}"[:80]))
        return admitted


class _Admitted:
    """A callable that a pickle may name; its own state cannot be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("state for a function")


class _Dtype:
    """Stand-in for ``numpy.dtype``."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code.lstrip("<>=|") not in _DTYPES:
            raise pickle.UnpicklingError(f"numbers of type {code!r:.20}")
        self._code, self._order = code.lstrip("<>=|"), code[0] if code[0] in _BYTE_ORDERS else "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in _BYTE_ORDERS:
            raise pickle.UnpicklingError("unknown state of a number type")
        self._order = state[1]

    def build(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class _Array:
    """Stand-in for an array whose content follows."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(data, str):  # bytes in a pickle of Python 2
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array without numbers")
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MAX_AXES
        or not all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape)
        or math.prod(shape) * dtype.build().itemsize != len(data)
    ):
        raise pickle.UnpicklingError(f"an array whose shape does not fit its {len(data)} bytes")
    return np.frombuffer(bytes(data), dtype.build()).reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any) -> float:
    return float(_array(data, dtype, (), "C"))


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("an unknown encoding")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy", "ndarray"): _Admitted(_reconstruct),
    ("numpy", "dtype"): _Admitted(_Dtype),
    ("_codecs", "encode"): _Admitted(_encode),
    # numpy 2 renamed numpy.core; protocol 5 writes arrays by _frombuffer.
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Admitted(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Admitted(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Admitted(_array) for core in ("core", "_core")},
}


def _arrays(content: Any) -> list[np.ndarray]:
    """All arrays, each once: a list may hold itself, or another one a thousand times."""
    waiting, seen, found = [content], set(), []
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, _Array) and item.value is not None:
            found.append(item.value)
        elif isinstance(item, np.ndarray):
            found.append(item)
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
    return found

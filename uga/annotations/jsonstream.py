"""JSON read piece by piece, so that memory follows what is kept and not the file."""

from __future__ import annotations

import math
import re
from array import array
from typing import IO, TYPE_CHECKING, Any

import ijson
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MAX_POINTS = 20_000_000
"""Points of all outlines of a file: 320 MB."""

_MAX_COORDINATE = 1e9
_MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"
_NOT_FINITE = re.compile(rb"(?<=[:,\[\s])-?(?:NaN|Infinity)(?=[,\]}\s]|$)")
_STARTS = {"start_map", "start_array"}
_ENDS = {"end_map", "end_array"}

Rings = list["NDArray[np.float64]"]


class MalformedError(ValueError):
    """The file is not what it should be; ``problem`` and ``remedy`` complete '<file> ...; ...'."""

    def __init__(self, problem: str, remedy: str = "export it again") -> None:
        super().__init__(f"{problem}; {remedy}")


class JsonStream:
    """A JSON file as a series of values; each method takes the next value or a part of it."""

    def __init__(self, file: IO[bytes]) -> None:
        if file.read(len(_MARK)) != _MARK:
            file.seek(0)
        self._events = ijson.basic_parse(_FiniteNumbers(file), use_float=True, buf_size=_CHUNK_BYTES)
        self._points = 0

    def next(self) -> tuple[str, Any]:
        """The next event: its kind as ijson names it, and its value.

        Raises:
            MalformedError: no valid JSON.
        """
        try:
            event: tuple[str, Any] = next(self._events)
        except ijson.JSONError as error:
            raise _no_json(error) from error
        return event

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            MalformedError: something does.
        """
        try:
            for _ in self._events:
                raise MalformedError("goes on after its end")
        except ijson.JSONError as error:
            raise _no_json(error) from error

    def members(self) -> Iterator[str]:
        """The keys of an object whose start was taken; the caller takes the value of each."""
        while (event := self.next())[0] != "end_map":
            yield event[1]

    def entries(self) -> Iterator[tuple[str, Any]]:
        """The event that starts each item of a list whose start was taken; the caller takes the rest of the item."""
        while (event := self.next())[0] != "end_array":
            yield event

    def enter(self, kind: str) -> bool:
        """Take the start of the next value and tell whether it is of a kind; if not, the value is skipped."""
        found, _ = self.next()
        if found != kind:
            self.skip_rest(found)
        return found == kind

    def text(self) -> str:
        """The next value if it is a text or a number, without blanks around it; "" for any other."""
        kind, value = self.next()
        self.skip_rest(kind)
        return str(value).strip() if kind in ("string", "number") else ""

    def skip(self) -> None:
        """Take the next value."""
        self.skip_rest(self.next()[0])

    def skip_rest(self, kind: str) -> None:
        """Take the rest of a value, given the event that started it."""
        depth = int(kind in _STARTS)
        while depth:
            kind = self.next()[0]
            depth += (kind in _STARTS) - (kind in _ENDS)
            if depth > _MAX_DEPTH:
                raise MalformedError(f"is nested more than {_MAX_DEPTH} deep")

    def polygons(self) -> tuple[int, list[Rings]]:
        """The next value as nested lists of points.

        Returns:
            How deeply the points' numbers lie (1: a point, 2: a line or ring, 3: a polygon, 4: several; 0 if there are
            none), and rings by polygon, float64 (n, 2).

        Raises:
            MalformedError: points that are not two finite numbers or more, lists of uneven depth, too many points.
        """
        nested = _NestedPoints(MAX_POINTS - self._points)
        try:
            for kind, value in self._events:
                if kind == "number":
                    nested.add(value)
                elif kind == "start_array":
                    nested.open()
                elif kind == "end_array":
                    nested.close()
                elif nested.depth or kind != "null":
                    raise MalformedError("has coordinates that are no numbers")
                if nested.depth == 0:
                    break
        except ijson.JSONError as error:
            raise _no_json(error) from error
        self._points += nested.points
        return nested.numbers_at, nested.polygons


class _FiniteNumbers:
    """A file with null for NaN and Infinity, which are no JSON but stand among measurements of QuPath before 0.5."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""

    def read(self, size: int) -> bytes:
        """About ``size`` bytes; none at the end."""
        if size == 0:
            return b""
        data = self._rest + self._file.read(size)
        # Up to a comma, so that no number is cut.
        end = data.rfind(b",") if len(data) > len(self._rest) else -1
        data, self._rest = (data[:end], data[end:]) if end > 0 else (data, b"")
        return _NOT_FINITE.sub(b"null", data) if b"NaN" in data or b"Infinity" in data else data


class _NestedPoints:
    """Gathers points, given the brackets around them."""

    def __init__(self, room: int) -> None:
        self.depth = self.numbers_at = self.points = 0
        self.polygons: list[Rings] = []
        self._room = room
        self._point: list[float] = []
        self._ring = array("d")
        self._rings: Rings = []

    def open(self) -> None:
        """A bracket opens."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise MalformedError(f"is nested more than {_MAX_DEPTH} deep")

    def add(self, number: float) -> None:
        """A number within the open brackets."""
        if self.depth == 0 or self.numbers_at not in (0, self.depth):
            raise MalformedError("has coordinates nested unevenly")
        self.numbers_at = self.depth
        self._point.append(number)

    def close(self) -> None:
        """The innermost open bracket ends."""
        level = self.numbers_at - self.depth
        if level == 0 and self._point:
            self._ring.extend(checked_point(self._point))
            self._point.clear()
            self.points += 1
            if self.points > self._room:
                raise too_many_points()
        elif level == 1:
            self._rings.append(np.array(self._ring, np.float64).reshape(-1, 2))
            self._ring = array("d")
        self.depth -= 1
        if self._rings and (level == 2 or self.depth == 0):
            self.polygons.append(self._rings)
            self._rings = []


def checked_point(numbers: Sequence[float]) -> tuple[float, float]:
    """The x and y of a point.

    Raises:
        MalformedError: it has fewer numbers, or lies where no slide is.
    """
    if len(numbers) < 2:
        raise MalformedError("has a point without x and y")
    x, y = numbers[0], numbers[1]
    if not (math.fabs(x) <= _MAX_COORDINATE and math.fabs(y) <= _MAX_COORDINATE):
        raise MalformedError(f"has a point at ({x:g}, {y:g}), where no slide is")
    return x, y


def too_many_points() -> MalformedError:
    """The error for a file with more than `MAX_POINTS`."""
    return MalformedError(f"has more than {MAX_POINTS:,} points", "simplify its outlines or leave objects out")


def _no_json(error: ijson.JSONError) -> MalformedError:
    text = str(error).removeprefix("b'").replace("\\n", "\n")
    return MalformedError(f"is no valid JSON ({(text.splitlines() or ['damaged'])[0]})")

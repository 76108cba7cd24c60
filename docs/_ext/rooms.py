"""A picture of the package's rooms and their imports, drawn from its code: `{rooms}`.

A room is a folder of the package, or a module at its top. Each room stands in the layer just below
the lowest room that imports it. A room that imports nothing, and that no other room imports, is
left out. The directive also writes a table of the same facts, as the picture's text alternative.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import django_mongo_sessions

PACKAGE = Path(django_mongo_sessions.__file__).parent


# What the code says


@dataclass
class Room:
    """A folder of the package, or a module at its top."""

    name: str
    modules: dict[str, str] = field(default_factory=dict)  # by name: the docstring's first line
    imports: set[str] = field(default_factory=set)  # names of other rooms
    is_folder: bool = False

    @property
    def title(self) -> str:
        """The name as it is on disk."""
        return f"{self.name}/" if self.is_folder else f"{self.name}.py"


def read(package: Path) -> dict[str, Room]:
    """Return the rooms of a package by name."""
    rooms: dict[str, Room] = {}
    for path in sorted(package.rglob("*.py")):
        name, *inside = path.relative_to(package).with_suffix("").parts
        if name == "__init__":  # the package itself
            continue
        room = rooms.setdefault(name, Room(name, is_folder=bool(inside)))
        tree = ast.parse(path.read_text("utf-8"))
        room.imports.update(_imported(tree, package.name))
        if inside and inside[-1] != "__init__":
            docstring = ast.get_docstring(tree) or ""
            room.modules[".".join(inside)] = docstring.partition("\n")[0]
    for name, room in rooms.items():
        room.imports = (room.imports & rooms.keys()) - {name}
    used = set().union(*(room.imports for room in rooms.values()))
    return {name: room for name, room in rooms.items() if room.imports or name in used}


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the first name below the package of each import."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    for name in names:
        first, _, rest = name.partition(".")
        if first == package:
            yield rest.partition(".")[0]


def layers(rooms: dict[str, Room]) -> list[list[Room]]:
    """Return the rooms by layer, from the top; raise CycleError if rooms import each other."""
    importers: dict[str, set[str]] = {name: set() for name in rooms}
    for room in rooms.values():
        for name in room.imports:
            importers[name].add(room.name)
    depth: dict[str, int] = {}
    for name in TopologicalSorter(importers).static_order():
        depth[name] = max((depth[other] + 1 for other in importers[name]), default=0)
    # Folders first, the largest one first.
    in_order = sorted(
        rooms.values(),
        key=lambda room: (depth[room.name], not room.is_folder, -len(room.modules), room.name),
    )
    return [list(found) for _, found in groupby(in_order, key=lambda room: depth[room.name])]


# The picture

_LABEL = 36  # the width of the layers' numbers
_LEFT, _RIGHT = 400, 212  # the least widths of the two columns of rooms
_SPACE = 10  # between two rooms of a layer
_PADDING, _LINE, _NAME = 12, 17, 24  # in a room: its padding, and the heights of its lines
_CHARACTER = 7.3, 8.4  # the widths of a character of a module's name, and of a room's
_LANE, _TRACK = 12.5, 9  # between two lines that run beside each other, down and across
_ARROW = 16  # from the last line to a room below it
_EDGE = 4  # around the picture
_COLORS = 8  # in pages.css
_RIGID = 720  # pixels below which the picture is scrolled, rather than made smaller


@dataclass
class Box:
    """Where a room is drawn."""

    room: Room
    layer: int  # 0 is the top
    is_right: bool  # the column
    left: float = 0
    width: float = 0
    top: float = 0
    height: float = 0

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    def least_width(self) -> float:
        """Return the width that the longest name needs."""
        longest = max(map(len, self.room.modules), default=0)
        texts = longest * _CHARACTER[0], len(self.room.title) * _CHARACTER[1]
        return max(texts) + 2 * _PADDING

    def lines(self) -> list[str]:
        """Return the names of the modules, as lines that fit."""
        lines: list[str] = []
        for name in self.room.modules:
            if lines and len(f"{lines[-1]}  {name}") * _CHARACTER[0] < self.width - 2 * _PADDING:
                lines[-1] += f"  {name}"
            else:
                lines.append(name)
        return lines


class Picture:
    """Rooms in their layers, and below each a line for every room that it imports.

    All lines to one room join, and end in one arrow. If they pass other layers, they run down a
    shaft between the two columns.
    """

    def __init__(self, rows: list[list[Room]]) -> None:
        self.rows = [
            [Box(room, layer, 2 * number >= len(row)) for number, room in enumerate(row)]
            for layer, row in enumerate(rows)
        ]
        self.boxes = {box.room.name: box for row in self.rows for box in row}
        self.lanes: dict[str, float] = {}  # where in the shaft lines to a room run
        self.gaps: list[float] = []  # where the space below each layer begins
        self.width = self._place_columns()
        self.height = self._place_layers()

    def _place_columns(self) -> float:
        """Set what is placed from left to right, and return the width of the picture."""
        shaft = _LABEL + self._column(False, _LEFT, _LABEL)
        passing = self._passing()
        for number, name in enumerate(passing):
            self.lanes[name] = shaft + (number + 1.5) * _LANE
        right = shaft + (len(passing) + 2) * _LANE
        return right + self._column(True, _RIGHT, right) + _EDGE

    def _column(self, is_right: bool, least: float, left: float) -> float:
        """Place the rooms of a column, and return its width."""
        rows = [[box for box in row if box.is_right is is_right] for row in self.rows]
        needed = [sum(box.least_width() + _SPACE for box in row) - _SPACE for row in rows]
        width = max(least, *needed)
        for row, need in zip(rows, needed, strict=True):
            x = left
            for box in row:
                box.left, box.width = x, box.least_width() + (width - need) / len(row)
                x += box.width + _SPACE
        return width

    def _passing(self) -> list[str]:
        """Return the rooms to which lines pass a layer, as they run in the shaft.

        On each side, the lines that end first are the outermost.
        """
        found = [
            box
            for box in self.boxes.values()
            if any(box.layer - other.layer > 1 for other in self._importers(box.room.name))
        ]
        found.sort(key=lambda box: (box.is_right, -box.layer if box.is_right else box.layer))
        return [box.room.name for box in found]

    def _importers(self, name: str) -> list[Box]:
        return [box for box in self.boxes.values() if name in box.room.imports]

    def _tracks(self, gap: int) -> list[str]:
        """Return the rooms to which lines run across the space below a layer, from the top.

        Lines that end there come last. Lines that only pass the space stay in the shaft.
        """
        found = [
            box
            for box in self.boxes.values()
            if self._begin(box.room.name, gap)
            or (box.layer == gap + 1 and self._importers(box.room.name))
        ]
        found.sort(key=lambda box: (-box.layer, box.left))
        return [box.room.name for box in found]

    def _begin(self, name: str, gap: int) -> list[float]:
        """Return where lines to a room begin, at the lower edge of a layer's rooms."""
        return [self._port(box, name) for box in self.rows[gap] if name in box.room.imports]

    def _port(self, box: Box, name: str) -> float:
        """Return where the line from a room to another begins: in the order of where they go."""
        order = sorted(
            box.room.imports, key=lambda other: self.lanes.get(other, self.boxes[other].middle)
        )
        return box.left + box.width * (order.index(name) + 1) / (len(order) + 1)

    def _place_layers(self) -> float:
        """Set what is placed from the top, and return the height of the picture."""
        top: float = _EDGE
        for layer, row in enumerate(self.rows):
            height = max(_NAME + len(box.lines()) * _LINE for box in row) + _PADDING
            for box in row:
                box.top, box.height = top, height
            top += height
            self.gaps.append(top)
            if layer < len(self.rows) - 1:
                top += (len(self._tracks(layer)) + 1) * _TRACK + _ARROW
        return top + _EDGE

    def lines_to(self, name: str) -> tuple[str, set[tuple[float, float]]]:
        """Return the path of the lines to a room, and the points at which they join."""
        target = self.boxes[name]
        path, joints = "", set()
        above: float | None = None  # where the line in the shaft comes from
        for gap in range(target.layer):
            if name not in self._tracks(gap):
                continue
            y = self.gaps[gap] + (self._tracks(gap).index(name) + 1) * _TRACK
            ends = gap == target.layer - 1
            stops = self._begin(name, gap)
            path += "".join(f"M{x:.1f} {self.gaps[gap]:.1f}V{y:.1f}" for x in stops)
            if above is not None:
                path += f"M{self.lanes[name]:.1f} {above:.1f}V{y:.1f}"
                joints |= set() if ends else {(self.lanes[name], y)}
            if above is not None or not ends:
                stops.append(self.lanes[name])
                above = y
            if ends:
                path += f"M{target.middle:.1f} {y:.1f}V{target.top - 7:.1f}"
                stops.append(target.middle)
            path += f"M{min(stops):.1f} {y:.1f}H{max(stops):.1f}"
            joints |= {(x, y) for x in stops if min(stops) < x < max(stops)}
        return path, joints

    def svg(self, description: str) -> str:
        """Return the picture."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} '
            f'{self.height:.0f}" style="min-width: {min(self.width * 0.9, _RIGID):.0f}px" '
            'role="img" aria-labelledby="rooms-title rooms-description">',
            '<title id="rooms-title">The rooms of the package and their imports</title>',
            f'<desc id="rooms-description">{escape(description)}</desc>',
        ]
        imported = [name for name in self.boxes if self._importers(name)]
        colors = {name: number % _COLORS for number, name in enumerate(imported)}
        for name, number in colors.items():
            parts.append(self._net(name, number))
        for number, row in enumerate(self.rows):
            x, y = _LABEL / 2 - 6, row[0].top + row[0].height / 2 + 5
            layer = len(self.rows) - number
            parts.append(f'<text class="layer" x="{x:.1f}" y="{y:.1f}">{layer}</text>')
            parts += [self._room(box, colors.get(box.room.name)) for box in row]
        return "\n".join([*parts, "</svg>"])

    def _net(self, name: str, color: int) -> str:
        path, joints = self.lines_to(name)
        target = self.boxes[name]
        x, y = target.middle, target.top
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in sorted(joints))
        importers = ", ".join(box.room.name for box in self._importers(name))
        return (
            f'<g class="lines color-{color}"><title>{name}, imported by {importers}</title>'
            f'<path d="{path}"/>{dots}'
            f'<path class="head" d="M{x - 4.5:.1f} {y - 8:.1f}h9l-4.5 8z"/></g>'
        )

    def _room(self, box: Box, color: int | None) -> str:
        x, y = box.left + _PADDING, box.top + _NAME
        edge = "" if color is None else f" color-{color}"
        parts = [
            f'<rect class="room{edge}" x="{box.left:.1f}" y="{box.top:.1f}" '
            f'width="{box.width:.1f}" height="{box.height:.1f}" rx="5"/>',
            f'<text class="name" x="{x:.1f}" y="{y:.1f}">{escape(box.room.title)}</text>',
        ]
        for number, line in enumerate(box.lines()):
            y = box.top + _NAME + (number + 1) * _LINE
            names = "  ".join(
                f"<tspan><title>{escape(box.room.modules[name])}</title>{escape(name)}</tspan>"
                for name in line.split()
            )
            parts.append(f'<text class="modules" x="{x:.1f}" y="{y:.1f}">{names}</text>')
        return "\n".join(parts)


# The page


class Rooms(SphinxDirective):
    """The picture, and the table that says the same."""

    def run(self) -> list[nodes.Node]:
        """Return both."""
        for path in PACKAGE.rglob("*.py"):
            self.env.note_dependency(str(path))
        try:
            rows = layers(read(PACKAGE))
        except CycleError as error:
            raise self.error(f"Rooms import each other: {error.args[1]}.") from error
        svg = Picture(rows).svg(" ".join(_sentences(rows)))
        picture = nodes.raw("", f'<div class="rooms" tabindex="0">{svg}</div>', format="html")
        table = nodes.container()
        self.state.nested_parse(StringList(_table(rows)), self.content_offset, table)
        return [picture, *table.children]


def _numbered(rows: list[list[Room]]) -> Iterator[tuple[int, Room]]:
    for number, row in enumerate(rows):
        for room in row:
            yield len(rows) - number, room


def _sentences(rows: list[list[Room]]) -> Iterator[str]:
    for layer, room in _numbered(rows):
        yield f"Layer {layer}: {room.name} imports {', '.join(sorted(room.imports)) or 'nothing'}."


def _table(rows: list[list[Room]]) -> list[str]:
    lines = ["| layer | room | modules | imports from |", "| --- | --- | --- | --- |"]
    for layer, room in _numbered(rows):
        modules, imports = _code(room.modules), _code(sorted(room.imports))
        lines.append(f"| {layer} | `{room.title}` | {modules} | {imports} |")
    return lines


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True}

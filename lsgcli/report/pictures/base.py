"""Base classes of gradient-flow figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, ClassVar, Protocol

from lsgcli import registry
from lsgcli.report.colours import Style, styles
from lsgcli.report.drawing import Drawing

Flow = dict[str, Any]  # a gradient-flow record


@dataclass(frozen=True)
class Panel:
    """One drawing of a picture, with title and note; ``drawing`` is None if there are no data."""

    drawing: Drawing | None
    title: str = ""
    note: str = ""
    layer: int | None = None  # number of the layer, if it shows a single layer


@dataclass(frozen=True)
class View:
    """Panels shown together. A picture has one view, or several to choose from.

    Attributes:
        name: of the choice; that of the picture if it is the only or the main one.
        panels: row by row.
        columns: number of columns; 0 for as many as fit.
        natural: drawings keep their size, whatever the room, and scroll.
        legend: what lines are.
    """

    name: str
    panels: Sequence[Panel]
    columns: int = 0
    natural: bool = False
    legend: Sequence[tuple[str, Style]] = field(default=())


class Picture(Protocol):
    """A figure of one or several checkpoints.

    Attributes:
        place: its order among the others.
        title: its heading.
        shows: what it shows, in full sentences.
        hides: what it cannot show.
    """

    place: ClassVar[int]
    title: ClassVar[str]
    shows: ClassVar[str]
    hides: ClassVar[str]

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        """Draw the records of checkpoints called ``labels``; returns no views if the records contain no data for it."""


def pictures() -> dict[str, Picture]:
    """All pictures by name, in order."""
    found = {name: registry.get("picture", name)() for name in registry.names("picture")}
    return dict(sorted(found.items(), key=lambda item: item[1].place))


def labels(flows: Sequence[Flow]) -> list[str]:
    """Short distinct names of checkpoints: the methods if distinct, otherwise the differing parts of their paths."""
    methods = [str(flow.get("method") or "") for flow in flows]
    if all(methods) and len(set(methods)) == len(methods):
        return methods
    paths = [PurePath(str(flow.get("checkpoint") or "")).parts for flow in flows]
    common = set(paths[0]).intersection(*paths[1:]) if len(paths) > 1 else set(paths[0][:-1])
    names = [
        " ".join(filter(None, (method, "/".join(part for part in path if part not in common) or "/".join(path[-1:]))))
        for method, path in zip(methods, paths, strict=True)
    ]
    names = [name or "network" for name in names]
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


def legend(names: Sequence[str]) -> list[tuple[str, Style]]:
    """Lines and markers of the checkpoints."""
    return list(zip(names, styles(len(names)), strict=True))

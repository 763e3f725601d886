"""A picture made of marks: on a page, as an SVG file, as a PNG file. All three show the same."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lsgcli.files import make_folder, replacing, write_text
from lsgcli.report.colours import LIGHT, PAGE
from lsgcli.report.marks import Mark, Pen

SMOOTH = 2  # painted this much larger, then reduced, so that edges are smooth


@dataclass(frozen=True)
class Drawing:
    """Marks on a ground of width x height pixels; ``label`` says what is to be seen, to those who cannot."""

    width: float
    height: float
    marks: Sequence[Mark]
    label: str

    def element(self) -> str:
        """As an element of a page, in the page's colours and as wide as its place there."""
        marks = "".join(mark.svg(PAGE) for mark in self.marks)
        return f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.label)}">{marks}</svg>'

    def svg(self) -> str:
        """As a file of its own, on white."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        ground = f'<rect width="100%" height="100%" fill="{LIGHT["ground"]}"/>'
        marks = "\n".join(mark.svg(LIGHT) for mark in self.marks)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">'
        return f"{head}<title>{escape(self.label)}</title>{ground}\n{marks}\n</svg>\n"

    def png(self, scale: int = 2) -> bytes:
        """As the content of a PNG file, on white, with ``scale`` pixels for each of the drawing's."""
        from PIL import Image, ImageDraw

        size = (round(self.width * scale), round(self.height * scale))
        canvas = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), LIGHT["ground"])
        pen = Pen(ImageDraw.Draw(canvas, "RGBA"), scale * SMOOTH, LIGHT)
        for mark in self.marks:
            mark.paint(pen)
        content = io.BytesIO()
        canvas.reduce(SMOOTH).save(content, "PNG", compress_level=4)
        return content.getvalue()


def save(drawings: Mapping[str, Drawing], folder: Path) -> list[Path]:
    """Write each drawing as NAME.svg and NAME.png into a folder, which is made if it is not there; return the files.

    Raises:
        StorageError: they cannot be written.
    """
    make_folder(folder)
    written = []
    for name, drawing in drawings.items():
        write_text(folder / f"{name}.svg", drawing.svg())
        with replacing(folder / f"{name}.png") as temporary:
            temporary.write_bytes(drawing.png())
        written += [folder / f"{name}.svg", folder / f"{name}.png"]
    return written

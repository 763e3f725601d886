"""Image files, of a fixed list of formats.

Pillow chooses a decoder by the content of a file, whatever its name, and that of EPS starts an interpreter.
"""

import functools
from pathlib import Path

import numpy as np

from lsgcli.data.guard import Damaged, foreign
from lsgcli.system.files import check_regular

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")  # a version may lack some
PIXELS = 1 << 26  # of an image; more are a decompression bomb
LARGEST = 8 * PIXELS  # bytes of a file: four channels of 16 bits


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file as uint8, (H, W, 3), or (H, W) if Pillow's ``mode`` is ``L``.

    Raises:
        DataError: not a regular file, not an image of :data:`FORMATS`, too large, or damaged.
    """
    with foreign(path, f"an image: {', '.join(_formats())}", hint="Replace it, or remove it from the folder."):
        from PIL import Image

        if (size := check_regular(path)) > LARGEST:
            raise Damaged(f"found a file of {size:,} bytes, expected at most {LARGEST:,}")
        with Image.open(path, formats=_formats()) as image:
            if image.width * image.height > PIXELS:
                raise Damaged(f"found {image.width}x{image.height} pixels, expected at most {PIXELS:,}")
            if image.format == "PNG":  # Pillow does not compare the checksums of pixels when it decodes them
                image.verify()
        with Image.open(path, formats=_formats()) as image:
            if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                raise Damaged(f"found pixels of type {image.mode}, expected 8 or 16 bits per channel")
            if image.mode.startswith("I"):  # 16 bits, as some versions of Pillow open a PNG as I; convert() would clip at 255
                return np.asarray(Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode))
            return np.asarray(image.convert(mode))


def image_suffixes() -> tuple[str, ...]:
    """File suffixes of :data:`FORMATS`."""
    from PIL import Image

    known = _formats()
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in known))


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that the installed Pillow decodes."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)

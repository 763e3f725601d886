"""What an AEDAT 4 file must look like before the library ``aedat`` may read it.

That library trusts the file: a header with wrong offsets makes it read outside of its memory, a size makes it allocate
as much, and a compressed packet is unpacked whatever comes out. So this module walks over the sizes, without unpacking or
decoding anything. All numbers are little-endian::

    #!AER-DAT4.0 CR LF
    u32 size, flatbuffer IOHeader: compression i32, position of the table at the end i64 (-1: none), XML text
    packets: i32 stream, i32 size, content (LZ4 or Zstandard frames, or a flatbuffer with a u32 size before it)
    table of packets, up to the end of the file

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html and the flatbuffers
binary format; LZ4 frame format 1.6; RFC 8878 (Zstandard).
"""

import struct
from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from lsgcli.data.guard import check_memory, damaged

MAGIC = b"#!AER-DAT4.0\r\n"
LONGEST_TEXT = 1 << 18  # bytes of XML; those of recordings have some thousands
DEEPEST_TEXT = 64  # elements; those of recordings have four
NO_TABLE = -1
LZ4 = 0x184D2204
ZSTD = 0xFD2FB528
ZSTD_BLOCK = 1 << 17  # no block unpacks to more
LZ4_RATIO = 255  # nor to more times its size


def check(path: Path, content: bytes | memoryview) -> None:
    """See that sizes and offsets lie inside the file, and that no packet unpacks to more than memory may hold.

    Raises:
        DataError: naming the byte.
    """
    header_end, compression, table = _header(path, content)
    bound = _BOUNDS.get(compression)
    if bound is None:
        raise damaged(path, f"byte {len(MAGIC) + 4}", f"compression {compression}", "0 to 4 (none, LZ4, Zstandard)")
    end = len(content) if table == NO_TABLE else table
    if not header_end <= end <= len(content):
        raise damaged(path, f"byte {len(MAGIC) + 4}", f"a table at byte {table}", f"{header_end} to {len(content)}, or -1")
    at = header_end
    while at < end:
        if at + 8 > end:
            raise damaged(path, f"byte {at}", f"{end - at} bytes", "8 bytes of a packet's number and size: it is cut off")
        size = struct.unpack_from("<I", content, at + 4)[0]
        if at + 8 + size > end:
            raise damaged(path, f"byte {at + 4}", f"a packet of {size} bytes", f"at most {end - at - 8} bytes to byte {end}")
        if size < 8:
            raise damaged(path, f"byte {at + 4}", f"a packet of {size} bytes", "at least 8")
        unpacked = bound(content, at + 8, at + 8 + size)
        # The packet, what it unpacks to (in a buffer that may have grown to twice that), and its events as an array.
        check_memory(path, len(content), size + 3 * unpacked, f"a packet at byte {at} of up to {unpacked:,} bytes")
        at += 8 + size


def _header(path: Path, content: bytes | memoryview) -> tuple[int, int, int]:
    """(Where packets begin, compression, position of the table)."""
    start = len(MAGIC) + 4
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise damaged(path, "byte 0", repr(bytes(content[: len(MAGIC)])), "#!AER-DAT4.0")
    if len(content) < start:
        raise damaged(path, f"byte {len(MAGIC)}", "the end of the file", "a header")
    size = struct.unpack_from("<I", content, len(MAGIC))[0]
    if start + size > len(content):
        raise damaged(path, f"byte {len(MAGIC)}", f"a header of {size} bytes", f"at most {len(content) - start}")
    try:
        compression, table = _io_header(bytes(content[start : start + min(size, 2 * LONGEST_TEXT)]))
    except (struct.error, ValueError) as error:
        raise damaged(path, f"byte {start}", f"a header that is damaged ({error})", "an AEDAT 4 header") from error
    return start + size, compression, table


def _io_header(buffer: bytes) -> tuple[int, int]:
    """(Compression, position of the table) of a flatbuffer, each offset and the XML text checked."""
    if buffer[4:8] != b"IOHE":
        raise ValueError(f"identifier {buffer[4:8]!r}")
    root = _inside(buffer, _u32(buffer, 0), 4)
    vtable = _inside(buffer, root - struct.unpack_from("<i", buffer, root)[0], 4)
    vtable_size, table_size = struct.unpack_from("<HH", buffer, vtable)
    if vtable_size < 4 or vtable_size % 2 or table_size < 4:
        raise ValueError(f"table sizes {vtable_size} and {table_size}")
    _inside(buffer, vtable, vtable_size)
    _inside(buffer, root, table_size)

    def field(number: int, width: int) -> int | None:
        """Where a field lies; None where it has its default."""
        place = 4 + 2 * number
        offset = struct.unpack_from("<H", buffer, vtable + place)[0] if place + 2 <= vtable_size else 0
        if not offset:
            return None
        if offset < 4 or offset + width > table_size:
            raise ValueError(f"field {number} at {offset} of {table_size}")
        return root + offset

    compression, table, text = field(0, 4), field(1, 8), field(2, 4)
    if text is None:
        raise ValueError("no description")
    begin = _inside(buffer, text + _u32(buffer, text), 4)
    length = _u32(buffer, begin)
    _inside(buffer, begin + 4, length)
    words = buffer[begin + 4 : begin + 4 + length]
    words.decode("utf-8")
    _check_text(words)
    return (
        0 if compression is None else struct.unpack_from("<i", buffer, compression)[0],
        NO_TABLE if table is None else struct.unpack_from("<q", buffer, table)[0],
    )


def _check_text(text: bytes) -> None:
    """Refuse XML that nests deep, on which the library's parser runs out of stack and takes the process with it."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a description of {len(text)} bytes, not {LONGEST_TEXT} at most")
    depth = 0

    def start(name: str, attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST_TEXT:
            raise ValueError(f"a description that nests deeper than {DEEPEST_TEXT}")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*declaration: object) -> None:
        raise ValueError("a description with entities of its own")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"a description that is no XML: {error}") from error


def _u32(buffer: bytes | memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", buffer, at)[0])


def _inside(buffer: bytes, at: int, width: int) -> int:
    if at < 0 or at + width > len(buffer):
        raise ValueError(f"an offset to {at} of {len(buffer)}")
    return at


def _stored(content: bytes | memoryview, at: int, end: int) -> int:
    return end - at


def _lz4(content: bytes | memoryview, at: int, end: int) -> int:
    """Most bytes that LZ4 frames can unpack to, from the sizes of their blocks."""
    most = 0
    while at + 7 <= end and _u32(content, at) == LZ4:
        flags, block = content[at + 4], content[at + 5]
        largest = 1 << (8 + 2 * (block >> 4 & 7))
        at += 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        while at + 4 <= end and (word := _u32(content, at)):
            size = word & 0x7FFFFFFF
            most += min(largest, size if word >> 31 else LZ4_RATIO * size)
            at += 4 + size + (4 if flags & 16 else 0)
        at += 4 + (4 if flags & 4 else 0)
    return most


def _zstd(content: bytes | memoryview, at: int, end: int) -> int:
    """Most bytes that Zstandard frames can unpack to, from the kinds and sizes of their blocks."""
    most = 0
    while at + 6 <= end and _u32(content, at) == ZSTD:
        flags = content[at + 4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = 0
        while at + 3 <= end and not last:
            word = int.from_bytes(content[at : at + 3], "little")
            last, kind, size = word & 1, word >> 1 & 3, word >> 3
            most += ZSTD_BLOCK if kind > 1 else min(size, ZSTD_BLOCK)
            at += 3 + (1 if kind == 1 else size)
        at += 4 if flags & 4 else 0
    return most


_BOUNDS: dict[int, Callable[[bytes | memoryview, int, int], int]] = {0: _stored, 1: _lz4, 2: _lz4, 3: _zstd, 4: _zstd}

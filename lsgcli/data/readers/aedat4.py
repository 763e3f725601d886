"""AEDAT 4, the format of tonic's copy of CIFAR10-DVS and of DV, decoded by the library ``aedat``.

The library does not validate files: wrong offsets cause reads outside its memory, and sizes and compressed packets allocate any amount
of memory. All sizes are therefore checked first, without decompression. All numbers are little-endian::

    #!AER-DAT4.0 CR LF
    u32 size, flatbuffer IOHeader: compression i32, position of the table at the end i64 (-1: none), XML text
    packets: i32 stream, i32 size, content (LZ4 frames, or a flatbuffer with a u32 size before it)
    table of packets, up to the end of the file

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html and the flatbuffers
binary format; LZ4 frame format 1.6.
"""

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

from lsgcli.data.events import Events
from lsgcli.data.guard import Damaged, damaged
from lsgcli.data.readers.base import check_memory, reader, whole
from lsgcli.registry import register

MAGIC = b"#!AER-DAT4.0\r\n"
START = len(MAGIC) + 4
LONGEST_TEXT, DEEPEST_TEXT = 1 << 18, 64  # bytes and nested elements of XML; recordings have some thousands, and four
NO_TABLE = -1
LZ4, LZ4_RATIO = 0x184D2204, 255  # no block unpacks to more times its size


@register("reader", "aedat4")
@reader(".aedat4", magic=MAGIC, extra="aedat4")
def aedat4(path: Path) -> Events:
    """The first event stream of an AEDAT 4 file."""
    import aedat

    size = path.stat().st_size
    _check(memoryview(path.read_bytes()))
    decoder = aedat.Decoder(str(path))
    streams = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    if not streams:
        raise Damaged("found no stream of events, expected at least one")
    first = min(streams)
    sensor = (int(streams[first]["width"]), int(streams[first]["height"]))
    packets = []
    count = 0
    for packet in decoder:
        if packet["stream_id"] == first and len(events := packet.get("events", ())):
            packets.append(Events(events["x"], events["y"], events["t"], events["on"], sensor))
            count += len(events)
            check_memory(size, 34 * count, f"{count:,} events and more")
    return whole(packets)


def _check(content: memoryview) -> None:
    """Check that sizes and offsets are inside the file, and that the decompressed packets fit into the memory limit."""
    end = len(content)
    size = _number(content, "I", len(MAGIC)) if end >= START else 0
    at = START + size
    if not size or at > end:
        raise damaged(f"byte {len(MAGIC)}", f"a header of {size} bytes", f"1 to {max(0, end - START)}")
    compression, table = _io_header(bytes(content[START : START + min(size, 2 * LONGEST_TEXT)]))
    if compression not in range(3):
        raise damaged(
            f"byte {START}", f"compression {compression}", "0 to 2 (none, LZ4); 3 and 4, Zstandard, are not supported"
        )
    if table != NO_TABLE:
        if not at <= table <= end:
            raise damaged(f"byte {START}", f"a table at byte {table}", f"{at} to {end}, or -1")
        end = table
    while at < end:
        if at + 8 > end:
            raise damaged(f"byte {at}", f"{end - at} bytes", "8 bytes with a packet's number and size; the file is truncated")
        size = _number(content, "I", at + 4)
        if not 8 <= size <= end - at - 8:
            raise damaged(f"byte {at + 4}", f"a packet of {size} bytes", f"8 to {end - at - 8}")
        packet = content[at + 8 : at + 8 + size]
        unpacked = _lz4(packet) if compression else size
        # The packet, its decompressed content (in a buffer of up to twice the size), and its events as an array.
        check_memory(len(content), size + 3 * unpacked, f"the up to {unpacked:,} bytes of the packet at byte {at}")
        at += 8 + size


def _io_header(buffer: bytes) -> tuple[int, int]:
    """(Compression, position of the table) of a flatbuffer; raises an error for an offset that the library must not follow."""
    if buffer[4:8] != b"IOHE":
        raise ValueError(f"identifier {buffer[4:8]!r}")
    root = _number(buffer, "I", 0)
    vtable = root - _number(buffer, "i", root)
    size = _number(buffer, "H", vtable)
    if size % 2:
        raise ValueError(f"a table of {size} bytes")
    fields = struct.unpack_from(f"<{size // 2 - 2}H", buffer, vtable + 4)
    compression, table, text = (*fields, 0, 0, 0)[:3]  # 0: the field has its default
    if not text:
        raise ValueError("no description")
    begin = root + text + _number(buffer, "I", root + text)
    (description,) = struct.unpack_from(f"{_number(buffer, 'I', begin)}s", buffer, begin + 4)
    _check_text(description)
    return (
        _number(buffer, "i", root + compression) if compression else 0,
        _number(buffer, "q", root + table) if table else NO_TABLE,
    )


def _check_text(text: bytes) -> None:
    """Reject deeply nested XML, for which the library's parser would overflow the stack and crash the process."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a description of {len(text)} bytes, not {LONGEST_TEXT} at most")
    text.decode("utf-8")
    if b"<!DOCTYPE" in text:
        raise ValueError("a description with custom entities")
    depth = 0
    for event, _ in ElementTree.iterparse(io.BytesIO(text), ("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEEPEST_TEXT:
            raise ValueError(f"a description that nests deeper than {DEEPEST_TEXT}")


def _number(buffer: bytes | memoryview, kind: str, at: int) -> int:
    if at < 0:
        raise ValueError(f"an offset to {at}")
    return int(struct.unpack_from("<" + kind, buffer, at)[0])


def _lz4(packet: memoryview) -> int:
    """Upper bound of the decompressed size of LZ4 frames, from their block sizes."""
    most = 0
    at = 0
    end = len(packet)
    while at + 7 <= end and _number(packet, "I", at) == LZ4:
        flags = packet[at + 4]
        block = packet[at + 5]
        largest = 1 << (8 + 2 * (block >> 4 & 7))
        at += 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        while at + 4 <= end and (word := _number(packet, "I", at)):
            size = word & 0x7FFFFFFF
            most += min(largest, size if word >> 31 else LZ4_RATIO * size)
            at += 4 + size + (4 if flags & 16 else 0)
        at += 4 + (4 if flags & 4 else 0)
    return most

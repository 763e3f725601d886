"""Text from outside that is safe to print to a terminal, and addresses that are safe to store."""

import re

from lsgcli.errors import redacted

# Control and bidirectional formatting characters, line separators, and surrogates. TEXT keeps line breaks and tabs.
CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
TEXT, COLUMN = re.compile(f"[{CONTROL}]"), re.compile(rf"[\t\n\\{CONTROL}]")


def clean(text: str, *, column: bool = False) -> str:
    r"""``text`` with control characters escaped, such as \x1b for ESC; bytes that are not UTF-8 become \x80 to \xff.

    Args:
        column: also escape line breaks, tabs and backslashes, so that any text fits into one tab-separated column.
    """
    return (COLUMN if column else TEXT).sub(lambda match: _escaped(match[0]), text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that os.fsdecode could not decode
        return f"\\x{ord(char) - 0xDC00:02x}"
    return f"\\u{ord(char):04x}" if char >= "\x80" else char.encode("unicode_escape").decode()


_complete: dict[str, str] = {}


def stored(address: str) -> str:
    """A path or address without user, password and query, as it may be stored; :func:`complete` gives the complete one in this process."""
    short = redacted(address)
    if short != address:
        _complete[short] = address
    return short


def complete(address: str) -> str:
    """The address of which ``address`` was :func:`stored`."""
    return _complete.get(address, address)

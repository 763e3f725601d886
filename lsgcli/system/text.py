"""Text from outside that is safe to print to a terminal."""

import re

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

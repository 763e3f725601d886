"""Printing of text, with control characters escaped, and of JSON."""

import re
import sys
from typing import Any

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


def clean(text: str) -> str:
    """``text`` with terminal control characters escaped, such as ``\\x1b`` for ESC; line breaks and tabs are kept."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def print_result(text: object) -> None:
    """Print a result to stdout; control characters are escaped if stdout is a terminal."""
    print(clean(str(text)) if sys.stdout.isatty() else text, flush=True)


def print_json(value: Any) -> None:
    """Print a result as one line of JSON; NaN and infinity become null."""
    import json

    from lsgcli.files import finite

    print(json.dumps(finite(value)), flush=True)

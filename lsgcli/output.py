"""What goes out of the program: text that may hold names of files and classes, and JSON."""

import re
import sys
from typing import Any

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


def clean(text: str) -> str:
    """``text`` with control characters written out, ``\\x1b`` for ESC: they would steer a terminal. Line breaks and tabs stay."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def print_result(text: object) -> None:
    """Print a result to stdout; as it is, unless a person reads it there."""
    print(clean(str(text)) if sys.stdout.isatty() else text, flush=True)


def print_json(value: Any) -> None:
    """Print a result as a line of JSON, in which NaN and infinity are null."""
    import json

    from lsgcli.files import finite

    print(json.dumps(finite(value)), flush=True)

"""The report of a run in the browser of the desktop."""

import os
import sys
from pathlib import Path

from lsgcli.errors import ConfigError


def check_display() -> None:
    """Check that a browser can be opened, which in a terminal alone would take the terminal.

    Raises:
        ConfigError: there is no display.
    """
    desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if not desktop:
        raise ConfigError(
            "--open: found no display (DISPLAY or WAYLAND_DISPLAY), expected one",
            hint="Omit --open: the path of the report is printed at the start.",
        )


def show(page: Path) -> None:
    """Open a page."""
    import webbrowser

    webbrowser.open(page.absolute().as_uri())

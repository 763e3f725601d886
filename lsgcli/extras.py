"""How to install what a feature needs beyond the base of lsg."""

DISTRIBUTION = "lsgcli"  # on the package index; the distribution called ``lsg`` there is another program


def install_hint(extra: str = "") -> str:
    """The command that installs lsg with an extra of ``pyproject.toml``, or lsg itself with all that it depends on."""
    what = f"[{extra}]" if extra else ""
    return f"Install it with: pip install '{DISTRIBUTION}{what}' (in a clone of the repository: pip install '.{what}')"

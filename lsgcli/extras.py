"""Installation hints for optional dependencies."""

DISTRIBUTION = "lsgcli"  # on the package index, where ``lsg`` is an unrelated project


def install_hint(extra: str = "") -> str:
    """The command that installs lsg with an extra of ``pyproject.toml``, or with its required dependencies."""
    what = f"[{extra}]" if extra else ""
    return f"Install it with: pip install '{DISTRIBUTION}{what}' (in a clone of the repository: pip install '.{what}')"

"""``python -m lsgcli`` is ``lsg``."""

from lsgcli.cli.app import main

if __name__ == "__main__":
    main()

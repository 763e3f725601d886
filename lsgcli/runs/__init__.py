"""A run from settings to report, and runs that exist: opened, compared, described before they start."""

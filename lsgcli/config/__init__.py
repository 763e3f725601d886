"""Settings: their fields, the sections of a run, the precedence of their sources, and published recipes."""

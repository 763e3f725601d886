"""Measurements on networks, as plain records: nothing here prints."""

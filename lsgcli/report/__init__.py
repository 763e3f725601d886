"""Tables, pages and figures of records."""

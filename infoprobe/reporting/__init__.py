"""The rows of a report, and ways to read them."""

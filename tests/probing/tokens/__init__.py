"""Tokens as samples: selections and masks."""

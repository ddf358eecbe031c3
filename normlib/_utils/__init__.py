"""Helpers that the rest of normlib shares; nothing here is public."""

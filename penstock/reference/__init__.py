"""Writes docs/reference from the code, so that the pages can't say anything else than it does."""

"""Backfills: past events of a time range through a pipeline again, as a dry run, a shadow or live."""

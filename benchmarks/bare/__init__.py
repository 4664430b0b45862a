"""The same work without Penstock: loops that a person would write by hand."""

"""jq, compiled to Python."""

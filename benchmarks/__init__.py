"""What Penstock costs: CPU seconds per million events beside a bare loop of the same work."""

"""The state store: checkpoints, dead letters, history, leases, on SQLite or PostgreSQL."""

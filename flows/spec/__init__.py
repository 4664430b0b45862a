"""Flow files: reading YAML with positions, models, checks across the file, JSON Schema."""

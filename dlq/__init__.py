"""Dead letters: list, show; replay and discard stand on the same records."""

"""Real servers that Penstock starts itself, for `penstock demo` and for its own tests."""

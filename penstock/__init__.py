"""The application: command line, demo, reference."""

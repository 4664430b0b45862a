"""The command line. Each command imports its machinery only when it runs."""

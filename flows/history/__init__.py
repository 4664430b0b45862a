"""Executions as they were recorded: found, listed, told step by step, compared."""

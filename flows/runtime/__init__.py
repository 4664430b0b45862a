"""The road of a batch: intake, steps, settle; the worker that runs it, the supervisor of workers."""

"""Flows: the YAML file, its plan, the dataflow that runs it, and the state it keeps."""

"""JSON Schemas that events are checked against, at ingress and before publishing."""

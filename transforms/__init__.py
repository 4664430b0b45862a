"""What happens to an event between source and sink: expressions and steps."""

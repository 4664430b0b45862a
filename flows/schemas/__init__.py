"""The schema registry: subjects and their versions, what may follow what, and who is asked."""

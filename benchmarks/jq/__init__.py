"""What jq programs cost: ours, libjq, jaq and hand-written Python, on the same values."""

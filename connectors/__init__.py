"""Events, and the contracts of the systems they come from and go to."""

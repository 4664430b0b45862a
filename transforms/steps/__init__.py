"""The steps, one module each; see transforms.contracts for what a step must do."""

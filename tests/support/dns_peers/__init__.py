"""Real DNS servers beside ours for the bench: how they are got and run, what all serve, and the load on them."""

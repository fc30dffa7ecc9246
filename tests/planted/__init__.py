"""For every claim, runs in which it holds and runs in which it does not."""

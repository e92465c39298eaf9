"""Floor 3: which cells, run one, measure it, keep it, rank it."""

"""Exact rank metrics: a table of pure functions, and torchmetrics classes that accumulate what they rank."""

"""Floor 2: from pixels to anomaly scores. Knows nothing of metrics. One file, one method; the file name is its key."""

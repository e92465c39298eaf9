"""Floor 1: images, masks, labels and shots. Knows nothing of CLIP, methods or metrics. One file, one data set."""

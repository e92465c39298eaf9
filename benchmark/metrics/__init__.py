"""Seven exact rank metrics: numpy functions first, torchmetrics classes that remember second."""

"""What `bench new` writes once the names `new_method`, `NewMethod`, `new_dataset` and `NewDataset` are replaced."""

"""`bench pretrain embedded`: trains the demonstration's tiny CLIP from scratch on rendered images with captions."""

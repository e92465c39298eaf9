"""`bench pretrain embedded`: the tiny CLIP of the demonstration, made from nothing on drawn images with captions."""

"""`bench pretrain embedded`: a tiny CLIP whose images learn from a teacher on photographs, its texts from drawings."""

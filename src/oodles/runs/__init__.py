"""One run, from its recipe to the file that other programs use."""

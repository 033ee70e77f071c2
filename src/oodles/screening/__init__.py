"""Looking through a pool of outliers before training with it: ``oodles outliers check``."""

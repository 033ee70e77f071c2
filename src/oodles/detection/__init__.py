"""What is deployed: a classifier with an outlier score, a threshold with a promise, and how to feed it."""

"""Outliers of a batch: paired with in-distribution rows, and what methods that make, choose or change them share."""

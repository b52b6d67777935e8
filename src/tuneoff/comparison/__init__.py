"""Comparison of methods: from the records of a study's runs to the summary and its recommendation.

`summary` aggregates the runs of each method. `bootstrap` resamples the test rows, `seed_variance`
estimates the variance between seeds, `statistics` and `simultaneous` compute intervals and tests
from both, and `pairwise` compares every pair of methods. `recommendation` selects a method, and
`sentences` writes the recommendation as text.
"""

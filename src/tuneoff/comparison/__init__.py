"""Comparison of methods: from the records of a study's runs to the summary and its recommendation.

`summary` aggregates the runs of each method. `bootstrap` resamples the test rows, `seed_variance`
estimates the variance between seeds, `statistics` and `simultaneous` make intervals and tests of
both, and `pairwise` compares every pair of methods. `recommendation` says which method to take, and
`sentences` puts it into words.
"""

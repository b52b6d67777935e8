"""Results: the records of runs, their scores, and the folder of a study that keeps them.

`record` defines what a run and a prepared task leave behind, `scores` computes the metrics, and
`store` reads and writes the files of a study's folder.
"""

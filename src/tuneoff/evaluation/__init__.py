"""Evaluation of trained runs on newly labelled rows.

`evaluate` reads the rows and predicts them with each run; `result` scores the predictions and
compares them, and the rows, with the test rows of the study.
"""

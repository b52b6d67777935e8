"""Forecasts of a study's time, memory and storage.

`estimate` tries each method on a few steps and extrapolates; `actual` compares the forecast with
the finished runs.
"""

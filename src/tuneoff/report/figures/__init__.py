"""Figures of the report, as plain data for Plotly; this package does not import plotly."""

from tuneoff.report.figures.base import Figure, Material, Plot

__all__ = ["Figure", "Material", "Plot"]

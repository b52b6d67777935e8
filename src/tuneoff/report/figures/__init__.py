"""The report's figures, as plain data for Plotly; nothing here imports plotly."""

from tuneoff.report.figures.base import Figure, Material, Plot

__all__ = ["Figure", "Material", "Plot"]

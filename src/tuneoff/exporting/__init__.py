"""Export of a run's model to other programs, with a proof that the export predicts the same.

`export` builds the folder, `parity` compares the export with the run's model on the user's rows and
measures the speed of both, `card` writes the model card, and `result` holds what they return.
"""

from tuneoff.exporting.export import export_run
from tuneoff.exporting.result import Export, ExportRefused, Parity

__all__ = ["Export", "ExportRefused", "Parity", "export_run"]

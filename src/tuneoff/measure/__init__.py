"""4: measuring. What each figure means stands in docs/measuring.md, how it is taken here.

`quality` scores predictions, `clock` takes times, `memory` peaks and their parts, `compute` the
share of the machine's arithmetic, `storage` bytes on disk, `environment` what it all ran on.
"""

"""4: measuring. What each figure means stands in docs/measuring.md, how it is taken here.

`quality` scores predictions, `clock` takes times, `memory` peaks and their parts (`meter` is both,
for the loop), `parameters` counts weights, `compute` finds the share of the machine's arithmetic,
`storage` counts bytes on disk, `environment` says what it all ran on.
"""

"""Reads the result folders of swbench.

    import swbench_results as sw

    # What `swbench export` prints, as a pandas DataFrame.
    table = sw.tidy("results/quickstart")
    # An xarray.DataArray over cell, layer and head.
    recall = sw.layers("results/quickstart", "block_recall", heads=True)
    # The raw values behind a figure.
    times = sw.samples("results/quickstart", key, "ttft_ms")
    # Which keys token 2,050 attended to in layer 5, where selections were saved.
    keys = sw.kept("results/tensors", key, 5, 2050)

`results` is everywhere a result folder, its results.h5, or one cell file. Damage that HDF5 itself
notices raises BadResults; the checksums in the files are verified by `swbench validate`.
"""

from swbench_results.cells import BadResults, samples
from swbench_results.kept import kept
from swbench_results.tables import COLUMNS, layers, read_index, tidy

__all__ = ["COLUMNS", "BadResults", "kept", "layers", "read_index", "samples", "tidy"]

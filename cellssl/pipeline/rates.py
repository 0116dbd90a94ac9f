"""rates: what single pieces of work take on one core, roughly, for estimates where nothing was measured."""

START_S = 4.0
"""Loading libraries, and writing what a stage writes at its end."""
BASE_MB = 1000.0
"""Memory of a process that has loaded torch and pandas."""
LIBRARIES_MB = 300.0
"""What a measurement has not loaded and a whole run has: figures, tables, clusterings."""
SIMULATE_S = 1.3
"""One megapixel of a simulated field on one core."""
HASH_BYTES_PER_S = 300e6
SEGMENT_S = {"watershed": 0.5, "nuclei_net": 3.0, "cellpose": 10.0}
"""One megapixel of one channel on one core."""
CELLS_S = {"propagate": 0.4, "watershed": 0.25, "cellpose": 10.0}
"""Finding the cells of one megapixel, on one core."""
COMPARTMENTS_S = 0.1
"""Measuring the compartments in one megapixel of one channel, on one core."""
SEGMENT_MB_PER_MEGAPIXEL, CELLS_MB_PER_MEGAPIXEL, WORKER_MB = 300.0, 150.0, 600.0
KEPT_NETWORKS = 8
"""Encoder, momentum encoder, and two checkpoints with the moments of the optimiser, in sizes of the encoder."""
FEATURES_S, INTENSITIES_S = 0.004, 0.0005
"""One cell, one core."""
CELLPROFILER_S, WITH_CELLS = 0.04, 4.0
"""One nucleus in three channels, one core; how many times as long where cells and cytoplasm are measured, too."""
JOIN_S = 0.0002
"""One cell with a few blocks."""
CLUSTER_S, EVALUATE_S = 0.004, 0.008
"""One cell of the split."""
HITS_S = 0.001
"""One cell that is embedded, with its share of the draws for p-values."""
REPORT_S = 5.0
"""One arm and seed."""
EMBEDDED_BYTES = 4 * 512

"""vector_words: names of models and of links in; what they take of a cell, and do to its vector, in words, out."""

from __future__ import annotations

from collections.abc import Sequence

LINKS = {
    "center_plate": "centred on the controls of every plate",
    "scale_pooled": "scaled by the spread of controls over all plates",
    "robust_z": "centred and scaled by median and MAD of the controls of the plate",
    "percentile": "scaled by the 1st and 99th percentile of the controls of the plate",
    "zscore": "standardised (every feature to mean 0 and standard deviation 1)",
    "pca": "reduced to principal components",
    "pca_whiten": "reduced to principal components of equal variance",
    "sphering": "whitened by the controls of all plates",
    "tvn": "corrected by typical variation normalisation",
    "clip": "limited to a range",
    "l2": "scaled to unit length",
}
"""What the links of `cluster.normalise` do to the vectors; `pca_whiten` is on cards of earlier versions."""

MEASURED = {
    "intensities": "the mean of every channel",
    "features": "classical features (brightness, texture, area and shape of the nucleus)",
    "cellprofiler": "CellProfiler's measurements of the nucleus, or of nucleus, cell and cytoplasm",
    "neighbours": "how near and how close-packed the other nuclei of the field are",
}
"""What the models without a network take of a cell."""


def chain_words(links: Sequence[str]) -> str:
    """Return in words what a chain of normalisers does to the vectors."""
    if not links:
        return "vectors not normalised"
    return "vectors " + ", then ".join(LINKS.get(link, link) for link in links)

"""collapse: from when on a training counts as collapsed, for what trains and for what reports; without torch."""

COLLAPSED_SPREAD = 0.05
"""Spread of a branch's projections below which it counts as collapsed: 1 is even on the sphere, 0 is one point."""
COLLAPSED_STEPS = 20
"""Number of collapsed steps in a row after which a warning is given."""

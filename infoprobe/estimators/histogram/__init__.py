"""Histograms: grids of bins, counts on them, and estimates from the counts."""

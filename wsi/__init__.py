"""Pixels: slides, tissue, tiles, the feature store, heatmaps and their files. No torch, no services."""

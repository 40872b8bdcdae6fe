"""The pathologist's desk: a worklist in the browser, slides under their heatmaps, decisions that are kept."""

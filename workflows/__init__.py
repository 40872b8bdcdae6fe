"""The world: the command line, clusters, files between the stages. Joins `wsi` and `mil` through files."""

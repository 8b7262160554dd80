"""One graph, many readings. Pure functions from an architecture to something to look at or act on."""

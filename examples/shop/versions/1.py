"""v1 of the shop, the one to begin with."""

NAME = "v1"
COLOUR = "#12263a"
SLOWER_BY = 0.0  # seconds
FAILS = 0.0  # part of the pages

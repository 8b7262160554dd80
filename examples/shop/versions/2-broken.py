"""v2 of the shop: one page in five fails."""

NAME = "v2"
COLOUR = "#0b6b3a"
SLOWER_BY = 0.0  # seconds
FAILS = 0.2  # part of the pages

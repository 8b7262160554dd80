"""v2 of the shop: what is new in it works."""

NAME = "v2"
COLOUR = "#0b6b3a"
SLOWER_BY = 0.0  # seconds
FAILS = 0.0  # part of the pages

"""`python -m asbuilt` is the same as `asbuilt`."""

from asbuilt.cli.main import main

main()

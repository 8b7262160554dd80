"""One folder for each engine, with the same file names; `registry` lists them."""

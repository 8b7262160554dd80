"""One small file for each drill; `registry` names them."""

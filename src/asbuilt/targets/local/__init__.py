"""The local target: plain processes under a small agent, one loopback address for each node."""

"""Redis 7 or Valkey: the cache nodes, and the sentinels that choose a new primary."""

"""PostgreSQL under Patroni; without replicas, PostgreSQL alone."""

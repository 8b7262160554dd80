"""etcd: the consensus store in which the database's members agree who leads."""

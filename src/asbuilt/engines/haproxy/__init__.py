"""HAProxy: the load balancer, and the routes to whichever database and cache node is primary now."""

"""The numbers of the source document, as three presets. An empty environment is exactly its preset.

Source: the chapters "Infrastructure Specifications", "Environment Architecture" and "Disaster Recovery".
"""

from __future__ import annotations

from typing import Any, Final

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "production": {
        "app": {"instances": "3..20", "cpu": 4, "memory": "16GB", "disk": "100GB"},
        "load_balancer": {"connections": 10000, "health_check": {"interval": "30s"}, "tls": "1.3"},
        "database": {
            "version": 16,
            "replicas": 2,
            "storage": "500GB..2TB",
            "backup": {"schedule": "daily", "retention": "30d"},
        },
        "cache": {"version": 7, "replicas": 2, "memory": "26GB", "eviction": "lru"},
        "objects": {},
        "files": {},
    },
    "staging": {
        "app": {"instances": 2, "cpu": 2, "memory": "4GB", "disk": "20GB"},
        "load_balancer": {"connections": 1000, "health_check": {"interval": "30s"}, "tls": "1.3"},
        "database": {"version": 16, "replicas": 0, "storage": "50GB"},
        "cache": {"version": 7, "replicas": 0, "memory": "2GB", "eviction": "lru"},
        "objects": {},
        "files": {},
    },
    "development": {
        "app": {"instances": 1, "cpu": 2, "memory": "4GB", "disk": "20GB", "reload": True},
        "load_balancer": None,
        "database": {"version": 16, "replicas": 0, "storage": "10GB"},
        "cache": {"version": 7, "replicas": 0, "memory": "256MB", "eviction": "lru"},
        "objects": {},
        "files": {},
    },
}

"""Where everything is: from the environment, and nowhere else."""

import os


def setting(name: str) -> str | None:
    return os.environ.get(name) or None


DATABASE_URL = setting("DATABASE_URL")
REPLICA_URL = setting("DATABASE_REPLICA_URL") or DATABASE_URL
REDIS_URL = setting("REDIS_URL")
S3_ENDPOINT = setting("AWS_ENDPOINT_URL_S3")
S3_BUCKET = setting("S3_BUCKET")
FILES_DIR = setting("FILES_DIR")
RELEASE = setting("ASBUILT_RELEASE") or "-"
NODE = setting("ASBUILT_NODE") or "-"
ENVIRONMENT = setting("ASBUILT_ENVIRONMENT") or "-"

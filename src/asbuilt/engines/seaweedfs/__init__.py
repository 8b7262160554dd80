"""Object storage: SeaweedFS with its S3 gateway."""

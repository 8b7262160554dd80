"""Runbooks as code: what the verbs do."""

"""File storage: one folder that all app servers of a machine share."""

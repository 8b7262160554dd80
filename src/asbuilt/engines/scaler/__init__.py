"""Changes the number of app servers with the load."""

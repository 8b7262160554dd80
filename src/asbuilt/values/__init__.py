"""Words with types: units, secrets, errors. Imports nothing of the project; everything imports it."""

"""What migration files do to tables, and which of it the release before can't live with. Pure.

`kinds` says which files are read, `sql`, `alembic`, `django` and `script` turn them into changes, `judge`
into findings by `rules`. Nothing is executed, and nothing raises on any text: what isn't understood is left
out.
"""

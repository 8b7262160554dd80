"""Makes the tables and the first products. May run any number of times, also two at once."""

import psycopg

from shop import settings

STATEMENTS = (
    "SELECT pg_advisory_xact_lock(20260101)",
    """CREATE TABLE IF NOT EXISTS products (
        id integer PRIMARY KEY, name text NOT NULL, description text NOT NULL, cents integer NOT NULL, icon text NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS orders (
        id bigserial PRIMARY KEY, key text NOT NULL UNIQUE, product integer NOT NULL REFERENCES products,
        quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 99), placed timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE IF NOT EXISTS ledger (
        key text PRIMARY KEY, number bigint NOT NULL, written timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX IF NOT EXISTS ledger_number ON ledger (number)",
)
PRODUCTS = (
    (1, "Drawing board", "Basswood, A1, with a parallel bar", 18900, "\U0001f4d0"),
    (2, "Scale ruler", "Triangular, aluminium, six scales", 1450, "\U0001f4cf"),
    (3, "Lead holder", "2 mm, brass, with a sharpener", 2200, "\u270f\ufe0f"),
    (4, "Level", "60 cm, two vials, for those who build", 3950, "\U0001f6e0\ufe0f"),
    (5, "Hard hat", "White, as inspectors wear it", 2790, "\u26d1\ufe0f"),
    (6, "Blueprint", "The building as it really is", 900, "\U0001f5fa\ufe0f"),
)


def main():
    with psycopg.connect(settings.DATABASE_URL, connect_timeout=10) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.cursor().executemany(
            "INSERT INTO products VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE "
            "SET name = excluded.name, description = excluded.description, cents = excluded.cents, icon = excluded.icon",
            PRODUCTS,
        )
    print(f"{len(PRODUCTS)} products")


if __name__ == "__main__":
    main()

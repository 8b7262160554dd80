"""Two pools: writes go to the primary, reads to a replica.

After a failover a pooled connection may still reach the old primary, which then answers 25006 (read-only): such a
connection counts as dead. A statement is tried once more on a new connection, so every write has to be idempotent.
"""

import asyncio

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shop import settings

DEAD = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction, PoolTimeout)


def _pool(url):
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=10,
        timeout=4,
        max_idle=60,
        reconnect_timeout=30,
        open=False,
        kwargs={"row_factory": dict_row, "connect_timeout": 3, "options": "-c statement_timeout=5000"},
    )


class Database:
    def __init__(self):
        self.primary = _pool(settings.DATABASE_URL)
        self.replica = _pool(settings.REPLICA_URL)

    async def open(self):
        for pool in (self.primary, self.replica):
            await pool.open(wait=False)

    async def close(self):
        for pool in (self.primary, self.replica):
            await pool.close(timeout=2)

    async def write(self, statement, values=()):
        return await self._run(self.primary, statement, values)

    async def read(self, statement, values=()):
        try:
            return await self._run(self.replica, statement, values)
        except DEAD:
            return await self._run(self.primary, statement, values)

    async def _run(self, pool, statement, values):
        for last in (False, True):
            try:
                return await self._once(pool, statement, values)
            except DEAD:
                if last:
                    raise
                await pool.check()  # throws every broken connection out
                await asyncio.sleep(0.05)
        return []

    async def _once(self, pool, statement, values):
        async with pool.connection() as connection:
            try:
                cursor = await connection.execute(statement, values)
                rows = await cursor.fetchall() if cursor.description else []
            except psycopg.errors.ReadOnlySqlTransaction:
                await connection.close()
                raise
        return rows  # after the commit

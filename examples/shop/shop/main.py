"""The shop as an ASGI application."""

import asyncio
import contextlib
import json
import random
import secrets
import signal
from pathlib import Path

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from shop import page, settings, storage, version
from shop.database import DEAD, Database

COOKIE = "cart"
MAX_IMAGE = 5 * 2**20
db = Database() if settings.DATABASE_URL else None
cache = (
    redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=3,
        socket_connect_timeout=2,
        health_check_interval=15,
        retry=Retry(ConstantBackoff(0.1), 2),
    )
    if settings.REDIS_URL
    else None
)
live = set()


class Unavailable(Exception):
    pass


def need(service, name):
    if service is None:
        raise Unavailable(f"no {name} here")
    return service


async def home(request):
    await asyncio.sleep(version.SLOWER_BY)
    if random.random() < version.FAILS:
        return Response("this version is broken", status_code=500)
    products, orders, visits, source, problem = [], [], "-", "-", ""
    try:
        if db:
            products = await db.read("SELECT *, pg_is_in_recovery() AS replica FROM products ORDER BY id")
            source = ("replica" if products[0]["replica"] else "primary") if products else "-"
            orders = await db.read(
                "SELECT o.id, o.quantity, p.name FROM orders o JOIN products p ON p.id = o.product ORDER BY o.id DESC LIMIT 8"
            )
    except DEAD:
        problem = "The database does not answer just now. Try again in a moment."
    with contextlib.suppress(RedisError, OSError):
        if cache:
            visits = await cache.incr("visits")
    answer = HTMLResponse(
        page.render(products, orders, visits, source, problem), headers={"x-served-by": settings.NODE}
    )
    if COOKIE not in request.cookies:
        answer.set_cookie(COOKIE, secrets.token_urlsafe(16), httponly=True, samesite="lax")
    return answer


async def health(request):
    """Whether this process can serve. The database is not asked: no app server is better than another without it."""
    return JSONResponse({"status": "ok", "node": settings.NODE, "release": settings.RELEASE})


async def whoami(request):
    return JSONResponse(
        {"node": settings.NODE, "release": settings.RELEASE, "environment": settings.ENVIRONMENT}
    )


async def products(request):
    rows = await need(db, "database").read(
        "SELECT *, pg_is_in_recovery() AS replica FROM products ORDER BY id"
    )
    return JSONResponse(
        {
            "from": "replica" if rows and rows[0].pop("replica") else "primary",
            "products": [{k: v for k, v in row.items() if k != "replica"} for row in rows],
        }
    )


def _cart(request):
    return "cart:" + request.cookies.get(COOKIE, "nobody")[:64]


async def cart(request):
    store, key = need(cache, "cache"), _cart(request)
    if request.method == "POST":
        body = await request.json()
        await store.hincrby(key, str(int(body["product"])), int(body.get("quantity", 1)))
        await store.expire(key, 86400)
    return JSONResponse({"items": {k: int(v) for k, v in (await store.hgetall(key)).items()}})


async def checkout(request):
    """Order everything in the cart; the same key orders once."""
    key = str((await request.json())["key"])[:64]
    store, name = need(cache, "cache"), _cart(request)
    items = await store.hgetall(name)
    placed = [
        await _order(f"{key}:{product}", int(product), int(quantity)) for product, quantity in items.items()
    ]
    await store.delete(name)
    return JSONResponse({"orders": placed}, status_code=201)


async def orders(request):
    if request.method == "POST":
        body = await request.json()
        number = await _order(str(body["key"])[:128], int(body["product"]), int(body.get("quantity", 1)))
        return JSONResponse({"order": number}, status_code=201)
    rows = await need(db, "database").read(
        "SELECT id, key, product, quantity FROM orders ORDER BY id DESC LIMIT 100"
    )
    return JSONResponse({"orders": rows})


async def _order(key, product, quantity):
    rows = await need(db, "database").write(
        "WITH placed AS (INSERT INTO orders (key, product, quantity) VALUES (%s, %s, %s) "
        "ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id, product) "
        "SELECT placed.id, products.name FROM placed JOIN products ON products.id = placed.product",
        (key, product, quantity),
    )
    with contextlib.suppress(RedisError, OSError):
        if cache:
            await cache.publish(
                "orders",
                json.dumps(
                    {
                        "order": rows[0]["id"],
                        "name": rows[0]["name"],
                        "quantity": quantity,
                        "node": settings.NODE,
                    }
                ),
            )
    return rows[0]["id"]


async def ledger(request):
    """Numbered entries, acknowledged after the commit; the same key is written once."""
    database = need(db, "database")
    if request.method == "POST":
        body = await request.json()
        await database.write(
            "INSERT INTO ledger (key, number) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING",
            (str(body["key"])[:128], int(body["number"])),
        )
        return JSONResponse({"key": body["key"], "number": body["number"]}, status_code=201)
    ask = database.read if request.query_params.get("from") == "replica" else database.write
    rows = await ask(
        "SELECT count(*) AS count, max(number) AS max, pg_is_in_recovery() AS replica FROM ledger"
    )
    return JSONResponse(rows[0])


async def ledger_keys(request):
    after = int(request.query_params.get("after", "-1"))
    limit = min(int(request.query_params.get("limit", "10000")), 100_000)
    rows = await need(db, "database").write(
        "SELECT number, key FROM ledger WHERE number > %s ORDER BY number, key LIMIT %s", (after, limit)
    )
    return JSONResponse({"entries": [[row["number"], row["key"]] for row in rows]})


async def image(request):
    need(settings.S3_ENDPOINT, "object storage")
    key = f"products/{request.path_params['id']}"
    if request.method == "PUT":
        kind = request.headers.get("content-type", "")
        if not kind.startswith("image/") or "svg" in kind:
            return JSONResponse({"error": "send an image"}, status_code=415)
        body = await request.body()
        if len(body) > MAX_IMAGE:
            return JSONResponse({"error": "at most 5 MB"}, status_code=413)
        await storage.put(key, body, kind)
        return Response(status_code=204)
    found = await storage.get(key)
    if found is None:
        return Response(status_code=404)
    return Response(found[0], media_type=found[1], headers={"x-content-type-options": "nosniff"})


async def note(request):
    """A file that every app server sees."""
    path = Path(need(settings.FILES_DIR, "file storage")) / "note.txt"
    if request.method == "PUT":
        body = (await request.body())[:65536]
        temporary = path.with_suffix(f".{secrets.token_hex(4)}")
        temporary.write_bytes(body)
        temporary.replace(path)
        return Response(status_code=204)
    if not path.exists():
        return Response(status_code=404)
    return Response(path.read_bytes(), media_type="text/plain", headers={"x-served-by": settings.NODE})


async def download(request):
    """A stream of `bytes` bytes over `seconds` seconds: what a deployment must not cut."""
    seconds = min(max(float(request.query_params.get("seconds", "5")), 0), 60)
    size = min(max(int(request.query_params.get("bytes", "100000")), 1), 100_000_000)
    parts = max(int(seconds * 10), 1)

    async def body():
        sent = 0
        for part in range(1, parts + 1):
            upto = size * part // parts
            yield b"x" * (upto - sent)
            sent = upto
            if part < parts:
                await asyncio.sleep(seconds / parts)

    return StreamingResponse(
        body(),
        media_type="application/octet-stream",
        headers={"content-length": str(size), "x-served-by": settings.NODE},
    )


async def orders_live(socket):
    await socket.accept()
    live.add(socket)
    try:
        await socket.send_json({"hello": settings.NODE})
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        live.discard(socket)


async def listen():
    """Pass on what any app server announces; begins anew after a failover of the cache."""
    while True:
        try:
            async with cache.pubsub() as channel:
                await channel.subscribe("orders")
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message:
                        for socket in list(live):
                            with contextlib.suppress(Exception):
                                await socket.send_text(message["data"])
        except (RedisError, OSError, asyncio.TimeoutError):
            await asyncio.sleep(0.5)


def say_goodbye():
    """At SIGTERM, before the server waits for what is under way: a websocket would never end by itself."""
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    async def close():
        for socket in list(live):
            with contextlib.suppress(Exception):
                await socket.close(1001)

    def at_term(number, frame):
        asyncio.run_coroutine_threadsafe(close(), loop)
        if callable(before):
            before(number, frame)

    with contextlib.suppress(ValueError):  # only the main thread may; elsewhere sockets are just cut
        signal.signal(signal.SIGTERM, at_term)


@contextlib.asynccontextmanager
async def lifespan(app):
    say_goodbye()
    if db:
        await db.open()
    task = asyncio.create_task(listen()) if cache else None
    yield
    if task:
        task.cancel()
    if db:
        await db.close()
    if cache:
        await cache.aclose()


async def unavailable(request, error):
    return JSONResponse(
        {"error": f"{type(error).__name__}: try again"}, status_code=503, headers={"retry-after": "1"}
    )


async def wrong(request, error):
    return JSONResponse({"error": "this is not what is expected here"}, status_code=400)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/health", health),
        Route("/whoami", whoami),
        Route("/api/products", products),
        Route("/api/cart", cart, methods=["GET", "POST"]),
        Route("/api/checkout", checkout, methods=["POST"]),
        Route("/api/orders", orders, methods=["GET", "POST"]),
        Route("/ledger", ledger, methods=["GET", "POST"]),
        Route("/ledger/keys", ledger_keys),
        Route("/products/{id:int}/image", image, methods=["GET", "PUT"]),
        Route("/note", note, methods=["GET", "PUT"]),
        Route("/download", download),
        WebSocketRoute("/live", orders_live),
    ],
    lifespan=lifespan,
    exception_handlers={
        **{error: unavailable for error in (*DEAD, RedisError, OSError, Unavailable)},
        **{error: wrong for error in (ValueError, KeyError, TypeError)},
    },
)

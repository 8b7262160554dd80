"""The page. Everything that comes from a user or the database is escaped."""

from html import escape

from shop import settings, version

STYLE = """
:root{--ink:#12263a;--line:#c9d6e2;--blue:#1f6feb;--paper:#f5f8fb}
*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:
linear-gradient(var(--line) 1px,transparent 1px) 0 0/100% 32px,var(--paper)}
header{background:var(--ink);color:#fff;padding:22px 5vw;display:flex;justify-content:space-between;flex-wrap:wrap;gap:12px}
h1{margin:0;font-size:26px;letter-spacing:.04em}header p{margin:0;opacity:.75}
.facts{display:flex;gap:8px;flex-wrap:wrap;align-items:center}.facts span{background:#ffffff1c;border:1px solid #ffffff38;
border-radius:99px;padding:3px 12px;font-size:13px}
main{padding:26px 5vw;display:grid;grid-template-columns:2fr 1fr;gap:26px}@media(max-width:900px){main{grid-template-columns:1fr}}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:16px}
.card,aside section{background:#fff;border:1px solid var(--line);border-radius:12px;padding:16px;box-shadow:0 2px 8px #12263a10}
.card{display:flex;flex-direction:column}.card .pic{height:110px;border-radius:8px;background:#e8f0f8;display:grid;place-items:center;
font-size:52px;overflow:hidden}.pic img{width:100%;height:100%;object-fit:cover}.card h3{margin:12px 0 2px}.card p{margin:0 0 12px;font-size:14px;
color:#4d6375;flex:1}.row{display:flex;justify-content:space-between;align-items:center;gap:8px}
button{background:var(--blue);color:#fff;border:0;border-radius:8px;padding:8px 14px;font:inherit;cursor:pointer}button.soft{background:#e8f0f8;
color:var(--ink);padding:8px 10px}aside{display:grid;gap:16px;align-content:start}h2{font-size:16px;margin:0 0 8px}
ul{margin:0;padding-left:18px}li{font-size:14px}li.new{animation:in 1.2s}@keyframes in{from{background:#ffe9a8}}
.err{padding:14px;background:#fff3f0;border:1px solid #f3b8ab;border-radius:10px}
"""
SCRIPT = """
const key=()=>crypto.randomUUID?crypto.randomUUID():String(Math.random()).slice(2);
const post=(u,b)=>fetch(u,{method:'POST',headers:{'content-type':'application/json'},body:JSON.stringify(b)});
const cart=async()=>{const r=await fetch('/api/cart');const c=await r.json();
 document.querySelector('#cart').replaceChildren(...Object.entries(c.items).map(([id,n])=>{const l=document.createElement('li');
 l.textContent=n+' x '+(document.querySelector('[data-id="'+id+'"]')?.dataset.name||id);return l}));};
document.addEventListener('click',async e=>{const b=e.target.closest('button');if(!b)return;
 if(b.dataset.add){await post('/api/cart',{product:+b.dataset.add});cart()}
 if(b.id==='order'){b.disabled=true;const r=await post('/api/checkout',{key:key()});b.disabled=false;if(r.ok)cart()}
 if(b.dataset.pic){const i=document.createElement('input');i.type='file';i.accept='image/*';i.onchange=async()=>{
  await fetch('/products/'+b.dataset.pic+'/image',{method:'PUT',body:i.files[0],headers:{'content-type':i.files[0].type}});location.reload()};i.click()}});
const live=()=>{const w=new WebSocket((location.protocol==='https:'?'wss://':'ws://')+location.host+'/live');
 w.onmessage=m=>{const o=JSON.parse(m.data);if(!o.order)return;const l=document.createElement('li');l.className='new';
 l.textContent='#'+o.order+' '+o.quantity+' x '+o.name+' via '+o.node;document.querySelector('#live').prepend(l)};w.onclose=()=>setTimeout(live,500)};
cart();live();
"""


def render(products, orders, visits, sources, problem=""):
    facts = {
        "environment": settings.ENVIRONMENT,
        "app server": settings.NODE,
        "release": f"{settings.RELEASE} ({version.NAME})",
        "products from": sources,
        "visits": visits,
    }
    chips = "".join(f"<span>{escape(k)}: <b>{escape(str(v))}</b></span>" for k, v in facts.items())
    cards = "".join(
        f'<div class="card" data-id="{p["id"]}" data-name="{escape(p["name"])}"><div class="pic">'
        f'<img src="/products/{p["id"]}/image" alt="" onerror="this.replaceWith(\'{escape(p["icon"])}\')"></div>'
        f'<h3>{escape(p["name"])}</h3><p>{escape(p["description"])}</p><div class="row"><b>{p["cents"] / 100:.2f} €</b>'
        f'<span><button class="soft" data-pic="{p["id"]}" title="upload a picture">\U0001f4f7</button> '
        f'<button data-add="{p["id"]}">Add</button></span></div></div>'
        for p in products
    )
    past = "".join(f"<li>#{o['id']} {o['quantity']} x {escape(o['name'])}</li>" for o in orders)
    error = f'<p class="err">{escape(problem)}</p>' if problem else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The As-Built Shop</title><style>{STYLE}header{{background:{version.COLOUR}}}</style></head><body><header><div><h1>The As-Built Shop</h1>
<p>tools for people who draw what is really there</p></div><div class="facts">{chips}</div></header>
<main><div>{error}<div class="grid">{cards}</div></div><aside><section><h2>Your cart</h2><ul id="cart"></ul>
<p><button id="order">Order</button></p></section><section><h2>Live orders</h2><ul id="live">{past}</ul></section></aside></main>
<script>{SCRIPT}</script></body></html>"""

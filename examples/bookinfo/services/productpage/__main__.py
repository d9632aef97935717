"""The product page: `GET /productpage`, sign-in and sign-out, and the same data as JSON below `/api/v1/products`.

Details and reviews are asked for at the same time; when one of them fails, the page says so and shows the rest. The
other services learn who is signed in from the header `end-user`; one that a browser sends itself is not believed.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from services.documents import Details, Failure, Product, Ratings, Reviews
from services.productpage.page import Page, render
from services.productpage.session import Seal
from services.remote import END_USER, Answer, Remote, Unavailable, forwarded, open_session
from services.serving import Instance, json, not_found, serve

PRODUCT = Product(
    id=0,
    title="Around the World in Eighty Days",
    description_html="Phileas Fogg bets his fortune that a man with a timetable can circle the globe in eighty days. "
    "Steamers run late, a railway ends in the middle of the jungle, and a detective is never far behind. "
    "At every stop, all that counts is choosing the next way on.",
)
TIMEOUT_SECONDS = 3.0

SESSION_COOKIE = "session"
SEEN_COOKIE = "seen"
"""The versions of reviews that answered this browser, newest last. It is shown, and nothing depends on it."""
SEEN_KEPT = 24

USER_NAME = re.compile(r"[A-Za-z0-9._@-]{1,40}")
"""What may stand in a header as it is."""
VERSION = re.compile(r"v\d{1,2}")

PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class ProductPage:
    def __init__(self, instance: Instance, details: Remote, reviews: Remote, ratings: Remote, seal: Seal) -> None:
        self._instance = instance
        self._details = details
        self._reviews = reviews
        self._ratings = ratings
        self._seal = seal

    def routes(self) -> Sequence[web.RouteDef]:
        product = r"/api/v1/products/{id}"
        return (
            web.get("/", self.page),
            web.get("/productpage", self.page),
            web.post("/login", self.login),
            web.get("/logout", self.logout),
            web.get("/api/v1/products", self.products),
            web.get(product, self.product_details),
            web.get(f"{product}/reviews", self.product_reviews),
            web.get(f"{product}/ratings", self.product_ratings),
        )

    async def page(self, request: web.Request, notice: str = "") -> web.Response:
        headers = self._headers(request)
        details, reviews = await asyncio.gather(
            self._details.get(f"/details/{PRODUCT.id}", headers, Details),
            self._reviews.get(f"/reviews/{PRODUCT.id}", headers, Reviews),
        )
        seen = _seen(request, reviews)
        page = Page(PRODUCT, details, reviews, self._user(request), seen, self._instance, notice)
        status = 422 if notice else 200
        response = web.Response(text=render(page), status=status, content_type="text/html", headers=PAGE_HEADERS)
        response.set_cookie(SEEN_COOKIE, ".".join(seen), httponly=True, samesite="Lax")
        return response

    async def login(self, request: web.Request) -> web.Response:
        user = str((await request.post()).get("username", "")).strip()
        if not USER_NAME.fullmatch(user):
            return await self.page(request, "A name has 1 to 40 letters, digits, or any of . _ @ -")
        response = web.Response(status=303, headers={"location": "/productpage"})
        response.set_cookie(SESSION_COOKIE, self._seal.seal(user), httponly=True, samesite="Lax")
        return response

    async def logout(self, _: web.Request) -> web.Response:
        response = web.Response(status=303, headers={"location": "/productpage"})
        response.del_cookie(SESSION_COOKIE)
        return response

    async def products(self, _: web.Request) -> web.Response:
        return json((PRODUCT,))

    async def product_details(self, request: web.Request) -> web.Response:
        return await self._relay(request, self._details, "details", Details)

    async def product_reviews(self, request: web.Request) -> web.Response:
        return await self._relay(request, self._reviews, "reviews", Reviews)

    async def product_ratings(self, request: web.Request) -> web.Response:
        return await self._relay(request, self._ratings, "ratings", Ratings)

    async def _relay(self, request: web.Request, remote: Remote, collection: str, kind: type[Struct]) -> web.Response:
        if request.match_info["id"] != str(PRODUCT.id):
            return not_found(request)
        answer = await remote.get(f"/{collection}/{PRODUCT.id}", self._headers(request), kind)
        if isinstance(answer, Unavailable):
            reason = answer.reason or "nothing was said of the reason"
            return json(Failure(f"{collection} are currently unavailable: {reason}"), answer.status)
        return json(answer.document)

    def _headers(self, request: web.Request) -> dict[str, str]:
        user = self._user(request)
        return forwarded(request.headers) | ({END_USER: user} if user else {})

    def _user(self, request: web.Request) -> str | None:
        return self._seal.open(request.cookies.get(SESSION_COOKIE, ""))


def _seen(request: web.Request, reviews: Answer[Reviews] | Unavailable) -> list[str]:
    seen = [version for version in request.cookies.get(SEEN_COOKIE, "").split(".") if VERSION.fullmatch(version)]
    if isinstance(reviews, Answer) and VERSION.fullmatch(reviews.document.version):
        seen.append(reviews.document.version)
    return seen[-SEEN_KEPT:]


async def application(instance: Instance) -> web.Application:
    app = web.Application(client_max_size=4096)
    session = open_session()
    app.on_cleanup.append(lambda _: session.close())
    details, reviews, ratings = (Remote(session, name, TIMEOUT_SECONDS) for name in ("details", "reviews", "ratings"))
    app.add_routes(ProductPage(instance, details, reviews, ratings, Seal.from_environment()).routes())
    app.router.add_static("/static", Path(__file__).parent / "static")
    return app


if __name__ == "__main__":
    serve("productpage", application)

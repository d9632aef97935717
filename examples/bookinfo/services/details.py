"""What is printed in the front of a book: `GET /details/0`."""

from aiohttp import web

from services.documents import Details
from services.serving import Instance, json, not_found, serve

BOOK = Details(
    id=0,
    author="Jules Verne",
    year=1873,
    type="paperback",
    pages=248,
    publisher="Four Winds Press",
    language="English",
    isbn_10="0000018732",
    isbn_13="978-0000018731",
)


async def details(request: web.Request) -> web.Response:
    return json(BOOK) if request.match_info["id"] == str(BOOK.id) else not_found(request)


async def application(_: Instance) -> web.Application:
    app = web.Application()
    app.router.add_get("/details/{id}", details)
    return app


if __name__ == "__main__":
    serve("details", application)

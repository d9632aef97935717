"""How many stars, out of five, each reviewer gives: `GET /ratings/0`."""

from aiohttp import web

from services.documents import Ratings
from services.serving import Instance, json, not_found, serve

RATINGS = Ratings(id=0, ratings={"Ines": 5, "Kofi": 4})


async def ratings(request: web.Request) -> web.Response:
    return json(RATINGS) if request.match_info["id"] == str(RATINGS.id) else not_found(request)


async def application(_: Instance) -> web.Application:
    app = web.Application()
    app.router.add_get("/ratings/{id}", ratings)
    return app


if __name__ == "__main__":
    serve("ratings", application)

"""What readers say: `GET /reviews/0`. Three versions, told apart by SERVICE_VERSION.

v1 knows no ratings; v2 asks the ratings service and shows black stars; v3 shows red ones.
"""

from aiohttp import web

from services.documents import Rating, Ratings, Review, Reviews
from services.remote import END_USER, FORWARDED, Remote, Unavailable, forwarded, open_session
from services.serving import Instance, json, not_found, serve

STAR_COLORS = {"v1": "", "v2": "black", "v3": "red"}
RATINGS_TIMEOUT_SECONDS = 2.0
"""Less than the product page waits for us, so that reviews without stars still arrive there."""

BOOK_ID = "0"
TEXTS = {
    "Ines": "A timetable has no right to be this exciting. Every missed connection cost Fogg an hour, "
    "and me another hour of sleep.",
    "Kofi": "Fogg hardly ever looks out of the window, and still you see half the world go by. "
    "I only wish Aouda had more to say.",
}


class ReviewsService:
    def __init__(self, instance: Instance, ratings: Remote) -> None:
        self._instance = instance
        self._color = STAR_COLORS[instance.version]
        self._ratings = ratings

    async def reviews(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != BOOK_ID:
            return not_found(request)
        ratings = await self._ratings_for(request) if self._color else {}
        reviews = tuple(Review(reviewer, text, ratings.get(reviewer)) for reviewer, text in TEXTS.items())
        return json(Reviews(BOOK_ID, reviews, podname=self._instance.pod, version=self._instance.version))

    async def _ratings_for(self, request: web.Request) -> dict[str, Rating]:
        headers = forwarded(request.headers, (*FORWARDED, END_USER))
        answer = await self._ratings.get(f"/ratings/{BOOK_ID}", headers, Ratings)
        if isinstance(answer, Unavailable):
            return dict.fromkeys(TEXTS, Rating(error=f"Ratings are currently unavailable (status {answer.status})"))
        return {reviewer: Rating(stars, self._color) for reviewer, stars in answer.document.ratings.items()}


async def application(instance: Instance) -> web.Application:
    app = web.Application()
    session = open_session()
    app.on_cleanup.append(lambda _: session.close())
    service = ReviewsService(instance, Remote(session, "ratings", RATINGS_TIMEOUT_SECONDS))
    app.router.add_get("/reviews/{id}", service.reviews)
    return app


if __name__ == "__main__":
    serve("reviews", application, versions=tuple(STAR_COLORS))

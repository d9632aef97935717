"""The product page as HTML: page.html with the parts that depend on the answers. Pure.

Everything that comes from elsewhere passes through `escape`. The page needs no script; its one style sheet has
the colours for light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from services.documents import Details, Product, Rating, Review, Reviews
from services.remote import Answer, Unavailable
from services.serving import Instance

MAX_STARS = 5
PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
STAR_WORDS = {"v1": "no stars", "v2": "black stars", "v3": "red stars"}

_RELOAD = '<a href="/productpage">Reload</a> a few times and watch the row of answers grow.'
_WEIGHT = "Change a weight in <code>routes.yaml</code>, save, and reload: the answers turn within a second."
HINTS = {
    "anonymous": ("Sign in as <strong>jason</strong>: black stars, from reviews v2, for him alone.", _RELOAD, _WEIGHT),
    "somebody": ("You are not jason, so the weights decide for you as for everybody.", _RELOAD, _WEIGHT),
    "jason": (
        '<a href="/productpage">Reload</a> as often as you like: your name decides, and v2 answers every time.',
        '<a href="/logout">Sign out</a>, and the weights decide for you again.',
    ),
}


@dataclass(frozen=True, slots=True)
class Page:
    product: Product
    details: Answer[Details] | Unavailable
    reviews: Answer[Reviews] | Unavailable
    user: str | None
    seen: Sequence[str]
    instance: Instance
    notice: str = ""


def render(page: Page) -> str:
    return PAGE.substitute(
        title=escape(page.product.title),
        description=page.product.description_html,
        author=_author(page.details),
        account=_account(page.user),
        notice=f'<p class="notice" role="alert">{escape(page.notice)}</p>' if page.notice else "",
        details=_details(page.details),
        reviews=_reviews(page.reviews),
        answered_by=_answered_by(page.reviews),
        seen=_seen(page.seen),
        hints=_hints(page.user),
        pod=escape(page.instance.pod),
    )


def _author(details: Answer[Details] | Unavailable) -> str:
    if isinstance(details, Unavailable):
        return ""
    return f'<p class="author">{escape(details.document.author)}, {details.document.year}</p>'


def _account(user: str | None) -> str:
    if user is None:
        return """<form class="account" method="post" action="/login">
      <label class="hidden" for="username">Name</label>
      <input id="username" name="username" placeholder="Any name, say jason" required maxlength="40"
             autocomplete="username" autocapitalize="none" spellcheck="false">
      <button>Sign in</button>
    </form>"""
    return f"""<div class="account">
      <span class="avatar" aria-hidden="true">{escape(user[0].upper())}</span>
      <span>Signed in as <strong>{escape(user)}</strong></span>
      <a class="button" href="/logout">Sign out</a>
    </div>"""


def _details(details: Answer[Details] | Unavailable) -> str:
    if isinstance(details, Unavailable):
        return _unavailable("Book details", details)
    book = details.document
    facts = {
        "Format": book.type,
        "Pages": str(book.pages),
        "Language": book.language,
        "Publisher": book.publisher,
        "ISBN-10": book.isbn_10,
        "ISBN-13": book.isbn_13,
    }
    rows = "".join(f"<div><dt>{term}</dt><dd>{escape(value)}</dd></div>" for term, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _reviews(reviews: Answer[Reviews] | Unavailable) -> str:
    if isinstance(reviews, Unavailable):
        return _unavailable("Reviews", reviews)
    return "".join(map(_review, reviews.document.reviews))


def _review(review: Review) -> str:
    return f"""<article class="review">
        {_rating(review.rating)}
        <blockquote>{escape(review.text)}</blockquote>
        <p class="reviewer">{escape(review.reviewer)}</p>
      </article>"""


def _rating(rating: Rating | None) -> str:
    if rating is None:
        return ""
    if rating.stars is None:
        return f'<p class="unrated">{escape(rating.error)}</p>'
    count = max(0, min(rating.stars, MAX_STARS))
    stars = "".join(_star("full" if position < count else "empty") for position in range(MAX_STARS))
    color = "red" if rating.color == "red" else "black"
    return f'<p class="stars {color}" role="img" aria-label="{count} of {MAX_STARS} {color} stars">{stars}</p>'


def _star(kind: str) -> str:
    return f'<svg class="{kind}" viewBox="0 0 24 24" aria-hidden="true"><use href="#star"/></svg>'


def _unavailable(what: str, failure: Unavailable) -> str:
    reason = f"<code>{escape(failure.reason)}</code>" if failure.reason else ""
    return f"""<div class="unavailable" role="status">
        <p><strong>{what} are currently unavailable.</strong> Reload the page in a moment.</p>
        <p class="reason">Status {failure.status} from {escape(failure.service)} {reason}</p>
      </div>"""


def _answered_by(reviews: Answer[Reviews] | Unavailable) -> str:
    if isinstance(reviews, Unavailable):
        return '<p class="answered"><span class="version">no answer</span></p>'
    answer = reviews.document
    words = STAR_WORDS.get(answer.version, "")
    return f"""<p class="answered">
          <span class="version {_safe_class(answer.version)}">reviews {escape(answer.version)}</span>
          <span>{words}</span>
          <span class="pod" title="The pod that answered">{escape(answer.podname)}</span>
          <span>{reviews.milliseconds:.0f} ms</span>
        </p>"""


def _seen(seen: Sequence[str]) -> str:
    if not seen:
        return ""
    dots = "".join(f'<li class="{_safe_class(version)}">{escape(version)}</li>' for version in seen)
    counts = ", ".join(f"{seen.count(version)} × {escape(version)}" for version in sorted(set(seen)))
    return f"""<div class="seen">
          <h3>Who wrote your reviews so far</h3>
          <ol>{dots}</ol>
          <p>{counts}</p>
        </div>"""


def _safe_class(version: str) -> str:
    return version if version in STAR_WORDS else "other"


def _hints(user: str | None) -> str:
    hints = HINTS["anonymous" if user is None else "jason" if user == "jason" else "somebody"]
    return "".join(f"<li>{hint}</li>" for hint in hints)

"""The report as one self-contained page: no script, no font and no image from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.ladder.verdict import NOT_APPLICABLE
from compare.report import figures
from compare.report.view import SIGN, Detail, Dict, Plotted, view

if TYPE_CHECKING:
    from jinja2 import Template

LIMIT = 1_000_000  # bytes of a page
SECTION = 2500  # bytes that the section of a twin has at least
# From the longest page to the shortest: what is the same is cut before what differs.
DETAILS = (
    Detail(),
    *(Detail(rows) for rows in (320, 160, 80, 40, 20)),
    *(Detail(rows, plots=False) for rows in (160, 80, 40, 20, 10)),
    *(Detail(0, rows, plots=False) for rows in (320, 160, 80, 40, 20)),
    *(Detail(0, 10, plots=False, sections=n) for n in (320, 160, 80, 40, 20, 10)),
    Detail(0, 5, plots=False, sections=5, listed=500),
)


def render(report: Dict) -> str:
    """A page of at most 1 MB from `Report.to_dict()`; tables that do not fit are cut and say so."""
    count = len(report.get("twins") or [])
    plotted: Plotted = {}
    page = ""
    # Bisection, with the longest page that can fit as its first guess.
    guess = next(i for i, d in enumerate(DETAILS) if min(d.sections, count) * SECTION < LIMIT)
    too_long, fits = guess - 1, len(DETAILS)
    while fits - too_long > 1:
        found = _template().render(view(report, DETAILS[guess], plotted))
        if len(found.encode("utf-8", "replace")) <= LIMIT or guess == len(DETAILS) - 1:
            fits, page = guess, found
        else:
            too_long = guess
        guess = (too_long + fits) // 2
    return page


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def dashed(write: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda x: SIGN[NOT_APPLICABLE] if (text := write(x)) == figures.DASH else text

    environment.filters |= {
        "difference": dashed(figures.difference),
        "limit": dashed(figures.limit),
        "ratio": dashed(figures.ratio),
        "plural": figures.plural,
        "seconds": figures.seconds,
    }
    return environment.get_template("report.html.j2")


# What the template shows.


# Tables.

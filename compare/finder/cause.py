"""The edit of PyTorch's side that gives what JAX gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site, catalogue
from compare.finder.found import Cause
from compare.finder.replay import compared, unmasked
from compare.share import to_numpy


def cause(sites: Iterable[Site]) -> tuple[Cause | None, list[str]]:
    """The first edit of the catalogue that gives JAX's value, and the codes that were tried."""
    tried: list[str] = []
    for site in sites:
        for code, difference in catalogue().items():
            if not difference.edits or site.what not in difference.whats:
                continue
            if not re.fullmatch(difference.kinds, site.kind):
                continue
            tried.append(code)
            for edit in _edits(difference, site):
                value = _value(edit)
                if value is None or value.shape != site.theirs.shape or _is_idle(value, site.ours):
                    continue
                before, _ = compared(*_but_for_fills(site.ours, site))
                after, same = compared(*_but_for_fills(value, site))
                if same:
                    return Cause(difference, edit, before, after), tried
    return None, list(dict.fromkeys(tried))


def _but_for_fills(value: np.ndarray, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """A value and JAX's without what is masked on both, unless nothing else differs: whether -1e9
    or -inf is filled in is then no matter.
    """
    if compared(*unmasked(site.ours, site.theirs))[1]:
        return value, site.theirs
    return unmasked(value, site.theirs)


def _is_idle(value: np.ndarray, ours: np.ndarray) -> bool:
    """Whether an edit changes nothing: axes of length one that change places move no element."""
    shapes = [tuple(size for size in array.shape if size > 1) for array in (value, ours)]
    return shapes[0] == shapes[1] and compared(ours.ravel(), value.ravel())[1]


def _edits(difference: Difference, site: Site) -> Iterator[Edit]:
    """An edit that does not apply to what stands there is not the one."""
    assert difference.edits is not None
    try:
        yield from difference.edits(site)
    except Exception:
        return


def _value(edit: Edit) -> np.ndarray | None:
    try:
        return to_numpy(edit.compute())
    except Exception:
        return None

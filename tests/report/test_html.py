"""The page is whole, safe and small."""

import copy
import json
import re
import time
from html.parser import HTMLParser

import pytest

from compare.ladder.verdict import DIVERGED
from compare.report import html
from tests.report.samples import NASTY, REPORTS, diverged, report, twin


class Page(HTMLParser):
    """Elements, attributes, identifiers, links and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text = [], [], [], ""
        self.attributes = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k == "href"]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", REPORTS)
def test_page_is_whole_and_self_contained(name):
    given = REPORTS[name]
    before = copy.deepcopy(given)
    page = html.render(json.loads(json.dumps(given)))
    assert given == before
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|\bsrc=|url\(|@import|<script|<link|<iframe|javascript:", page)
    seen = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(seen.tags)
    assert len(set(seen.ids)) == len(seen.ids)
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    assert ("name", "viewport") in seen.attributes
    assert seen.tags.count("h1") == 1
    for entry in given.get("twins", ()):
        assert entry["name"] in seen.text
        for rung in entry.get("stages", ()):
            assert rung["name"] in seen.text
            assert rung["what"] in seen.text
        for row in entry.get("layers", []) + entry.get("parameters", []):
            assert row["torch"] in seen.text
            assert row["jax"] in seen.text
    for skipped in given.get("skipped", ()):
        assert skipped["reason"] in seen.text


def test_page_escapes_what_users_name():
    entry = diverged(NASTY)
    for row in entry["layers"]:
        row |= {"torch": NASTY + row["torch"], "jax": NASTY, "kind": NASTY, "jax_source": NASTY}
    entry["origin"]["torch"] = entry["layers"][1]["torch"]
    entry["stages"][1]["findings"] = [NASTY]
    entry["stages"][1]["what"] = NASTY
    entry["stages"][1]["worst_tensor"] = NASTY
    entry["parameters"][0] |= {"torch": NASTY, "shape": [NASTY]}
    entry["coverage"]["skipped"] = [NASTY]
    entry["cause"] = {"code": NASTY, "title": NASTY, "confirmed": True, "fix": NASTY, "after": 0.0}
    entry["trajectory"][0]["phase"] = NASTY
    given = report(entry, skipped=[{"backend": NASTY, "reason": NASTY}])
    given["environment"] = {"versions": {NASTY: NASTY}, NASTY: NASTY, "captured": {NASTY: [NASTY]}}
    given["run"] |= {"command": NASTY, "started": NASTY}
    page = html.render(given)
    assert "<script" not in page
    seen = Page(page)
    assert "script" not in seen.tags
    assert not [key for key, _ in seen.attributes if key.startswith("on")]
    assert seen.text.count(NASTY) > 15


def test_a_diverged_page_leads_to_the_origin():
    page = html.render(REPORTS["diverged"])
    seen = Page(page)
    assert seen.text.index("layer 2 of 3") < seen.text.index("Each twin")
    assert "#t2o" in seen.links
    row = page[page.index('id="t2o"') :].partition("<tr")[0]
    assert "layer0.1.conv1" in row
    assert "ORIGIN" in row
    before = page[: page.index('id="t2o"')].rpartition("<tbody>")[2]
    assert '<tr class="b"><td>1<' in before
    assert "the output of the one before it agrees" in seen.text
    for word in (
        "torchref/cnn/net.py:1",
        "jaxnn/cnn/net.py:3",
        "2.6e-04",
        "Of 3 twins, 1 diverges",
    ):
        assert word in seen.text
    assert "the parameters moved by 1e-5 only" in seen.text
    opened = re.findall(r'<details class="twin" id="(t\d)" open>', page)
    assert opened == ["t1", "t2", "t3"]
    assert re.findall(r'id="t(\d)" open', html.render(REPORTS["many"])) == []


RESNETS = {18: (60, 62), 34: (110, 110), 50: (175, 161), 101: (346, 314), 152: (516, 467)}


def forty():
    deep = [twin(f"cnn/resnet:resnet{n}", *size) for n, size in RESNETS.items()]
    return deep + [twin(f"room/file{i}:Twin", 30, 30) for i in range(35)]


@pytest.mark.parametrize(
    ("entries", "complete"),
    [
        (forty(), True),
        ([t | {"backends": ["torch:cpu", f"b{i}"]} for i in range(6) for t in forty()], False),
        ([diverged(f"cnn/n{i}:resnet152", 516, 200) for i in range(40)], False),
        ([diverged(f"n{i}", 3, 1, worst="x" * 100) for i in range(1000)], False),
    ],
    ids=["forty", "every backend", "all diverged", "thousands"],
)
def test_a_page_stays_below_a_megabyte(entries, complete):
    started = time.perf_counter()
    page = html.render(report(*entries))
    assert time.perf_counter() - started < 60
    assert len(page.encode()) <= 1_000_000
    seen = Page(page)
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    assert (page.count("report.json.</b>") + page.count("keep this page small") == 0) == complete
    if entries[0]["verdict"] == DIVERGED:
        assert page.count('<b class="diverged">ORIGIN</b>') >= 5

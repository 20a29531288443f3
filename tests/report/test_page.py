import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_sample import conclusion, latency, results
from sparsify.report.chart import Axes
from sparsify.report.markup import Html, element, join
from sparsify.report.metrics import build_metrics
from sparsify.report.page import render_report
from sparsify.report.style import STYLE

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.seen, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def body(page):
    """The page's body, parsed strictly: it is well-formed XML."""
    return ElementTree.fromstring(re.search(r"<body>.*</body>", page, re.DOTALL)[0])


def everything(attack):
    whole = results(description=attack, model=attack, data=attack, environment={"versions": {attack: attack}})
    whole = replace(whole, name=attack, probes={"perturb-rest": {**conclusion(), "note": attack}})
    found = build_metrics(
        replace(whole, export=replace(whole.export, reason=attack, latency=(latency(reason=attack),)))
    )
    return render_report(found | {"answer": attack}, recipe=f"name: {attack}")


def test_no_text_becomes_markup():
    page = everything(ATTACK)
    tags = Tags(page)
    assert {tag for tag, _ in tags.seen}.isdisjoint({"script", "img", "iframe", "object", "link", "a", "form"})
    assert not any(name.startswith("on") for _, attributes in tags.seen for name in attributes)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 8


@given(st.text(max_size=40))
def test_any_text_comes_back_as_it_was(text):
    parser = Tags(element("p", text, title=text))
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(parser.text).replace("\r\n", "\n").replace("\r", "\n") == expected
    assert parser.seen[0][0] == "p"
    assert len(parser.seen) == 1


def test_elements_keep_markup_and_escape_text():
    assert (
        element("b", "a<b", Html("<i/>"), None, class_="x y", data_n=1.50)
        == '<b class="x y" data-n="1.5">a&lt;b<i/></b>'
    )
    assert join("a", None, "&") == "a&amp;"
    assert element("rect", width=2.0) == '<rect width="2"/>'


def test_the_page_fetches_and_runs_nothing(whole):
    page = render_report(whole)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page.replace("&#x27;", "'")
    assert not re.search(r"https?:|url\(|@import|src=|href=", page)
    assert "prefers-color-scheme: dark" in STYLE


def test_the_page_is_well_formed_and_deterministic(whole):
    page = render_report(whole, recipe="name: x\n")
    assert page.startswith('<!doctype html>\n<html lang="en">')
    assert body(page).tag == "body"
    assert page == render_report(whole, recipe="name: x\n")


def test_the_page_is_the_same_from_a_file_whose_names_are_sorted(whole):
    stored = json.loads(json.dumps(whole, sort_keys=True))
    assert render_report(stored) == render_report(whole)


def test_what_explains_a_timing_is_told(whole):
    folded = body(render_report(whole)).findall(".//details")
    how = next(d for d in folded if d.find("summary").text == "How onnxruntime-cpu was measured")
    facts = dict(zip((e.text for e in how.iter("dt")), (e.text for e in how.iter("dd")), strict=True))
    assert facts == {
        "batch size": "1",
        "governor": "performance",
        "load average": "0.4",
        "precision": "fp32",
        "threads": "1",
        "parity max abs error": "2.1e-06",
        "parity tolerance": "0.0001",
    }


def test_every_level_has_a_row_and_the_exported_one_is_marked(whole):
    rows = body(render_report(whole)).find(".//section").findall(".//tbody/tr")
    assert [row.find("th").text for row in rows] == ["dense", *map(str, range(1, 16))]
    assert [row.find("th").text for row in rows if row.get("class") == "exported"] == ["12"]


def test_the_answer_the_note_and_the_verdicts_are_on_the_page(whole):
    text = "".join(Tags(render_report(whole)).text)
    assert whole["answer"] in text
    assert "Accuracy alone cannot show a ticket failing" in text
    for word in ("winning", "matching", "not shown", "undecided", "equivalent", "masked", "packed", "shrunk", "A/A"):
        assert word in text
    assert "about 24 tickets" in text
    assert "5 tickets x 5 redraws fall short of the protocol" in text


def test_the_chart_draws_each_point_once_at_its_place(whole):
    svg = body(render_report(whole)).find(".//figure/svg")
    series = [group for group in svg.findall("g") if group.get("class", "").startswith("series")]
    titles = sorted(title.text for group in series for title in group.findall("g/title"))
    assert len(titles) == 15 + 4 * 3
    assert "ticket, 80.0% of weights: 89.44%" in titles
    ticket = next(group for group in series if group.get("class").endswith("s0"))
    xs = [float(point.split(",")[0]) for point in ticket.find("polyline").get("points").split()]
    gaps = [b - a for a, b in pairwise(xs)]
    assert max(gaps) - min(gaps) < 0.3, "equal factors of density are equal steps on a log scale"


def test_bars_span_the_interval(whole):
    svg = body(render_report(whole)).find(".//figure/svg")
    bars = [line for line in svg.iter("line") if line.get("class") == "bar"]
    assert len(bars) == 15 + 4 * 3
    assert all(float(bar.get("y1")) >= float(bar.get("y2")) for bar in bars)


def test_axes_map_dense_to_the_left_and_accuracy_upwards():
    axes = Axes(0.01, 0.5, 1.0)
    assert axes.x(1.0) < axes.x(0.1) < axes.x(0.01)
    assert axes.x(0.1) - axes.x(1.0) == pytest.approx(axes.x(0.01) - axes.x(0.1))
    assert axes.y(1.0) < axes.y(0.75) < axes.y(0.5)
    assert axes.y(0.1) == axes.y(0.5), "held inside the canvas"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"replicates": 1, "levels": 1}, id="one replicate and level"),
        pytest.param({"export": None, "probes": {}, "environment": {}}, id="tickets only"),
        pytest.param({"levels": 0, "export": None}, id="dense only"),
        pytest.param({"probes": {"perturb-rest": conclusion(tickets=1)}}, id="one ticket"),
    ],
)
def test_what_is_missing_leaves_no_trace(changes):
    words = " ".join(Tags(render_report(build_metrics(results(**changes)))).text).split()
    assert {"None", "nan", "nan%", "nanx"}.isdisjoint(words)


def test_equal_accuracies_everywhere_still_make_a_chart():
    found = build_metrics(results(levels=2, replicates=2))
    for name in [n for n in found if n.endswith(("accuracy.mean", "accuracy.ci_low", "accuracy.ci_high"))]:
        found[name] = 1.0
    assert body(render_report(found)).find(".//figure/svg") is not None


def test_no_metrics_at_all_is_a_page():
    assert body(render_report({})).find(".//h1").text == "run"

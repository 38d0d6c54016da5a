import json
import re
from html.parser import HTMLParser

from nastool.plots.report import members, report_page, study_page
from nastool.problem import Problem


class Page(HTMLParser):
    """The page's tags, and that they are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def content(text):
    data = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    return json.loads(data[1])


def test_page_is_whole_and_needs_no_network(result):
    text = study_page("mine", result, {"seed": 0, "seconds": 1.25})
    page = Page(text)
    assert page.open == []
    assert not [a for tag, a in page.tags if tag in ("link", "img") or "src" in a]
    assert "<b>seconds</b> 1.25" in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_pages_of_many_objectives_show_all_of_them(problem, result, toy):
    metrics = [toy.Score(name, "s") for name in ("speed", "power", "heat", "noise")]

    def page(count):
        every = Problem(problem.space, (*problem.objectives, *metrics[:count]))
        return content(study_page("mine", toy.run(every), {}))

    of_three = page(1)
    front, parallel, matrix, _ = of_three["figures"]
    assert [axis["name"] for axis in front["choice"]] == ["loss", "params", "speed"]
    (lines,) = parallel["figure"]["data"]
    assert parallel["brushes"]
    assert [d["label"] for d in lines["dimensions"]] == ["loss", "params", "speed"]
    assert {len(d["values"]) for d in lines["dimensions"]} == {len(of_three["members"])}
    (points,) = matrix["figure"]["data"]
    assert [row[0] for row in points["customdata"]] == [m["text"] for m in of_three["members"]]
    assert "a projection of 3 metrics" in study_page(
        "mine", toy.run(Problem(problem.space, metrics[:3])), {}
    )
    # Two need neither; more than five pairs are too small to be read.
    assert [f["id"] for f in page(0)["figures"]] == ["front", "shapes-0"]
    assert "matrix" not in [f["id"] for f in page(4)["figures"]]
    assert "a projection of" not in study_page("mine", result, {})


def test_page_warns_of_a_proxy_once_and_escapes_it(result):
    text = study_page("mine", result, {})
    assert text.count("a &lt;small&gt; net") == 1
    assert "<small>" not in text


def test_page_data_holds_figures_members_and_genes(problem, result):
    data = content(study_page("mine", result, {}))
    assert [figure["id"] for figure in data["figures"]] == ["front", "shapes-0"]
    assert len(data["members"]) == len(result.front())
    assert len(data["columns"]["shapes-0"]) == len(result.front())
    assert data["genes"][0] == {"name": "layer_1", "choices": [8, 16, 32, 64]}
    for member in data["members"]:
        choices = [g["choices"][i] for g, i in zip(data["genes"], member["genotype"], strict=True)]
        assert "-".join(map(str, choices)) == member["text"]


def test_every_row_of_the_table_names_its_member(result):
    page = Page(study_page("mine", result, {}))
    rows = [a["data-member"] for tag, a in page.tags if tag == "tr" and "data-member" in a]
    assert rows == [str(i) for i in range(len(result.front()))]


def test_members_follow_the_front_and_are_thinned(problem, result):
    rows = members("mine", result)
    losses = [row.values[0] for row in rows]
    assert losses == sorted(losses)
    assert rows[0].lines[1].endswith("(computed)")
    few = members("mine", result, limit=2)
    assert [few[0], few[-1]] == [rows[0], rows[-1]]


def test_several_studies_get_a_column_and_figures_each(problem, result, toy):
    text = report_page("two", {"one": result, "two": toy.run(problem, seed=1)}, {})
    assert "<button>study</button>" in text
    assert set(content(text)["columns"]) == {"shapes-0", "shapes-1"}
    assert "Shapes of the front of two" in text


def test_text_cannot_end_the_data(result):
    text = study_page("</script><b>", result, {"</script>": "</script>"})
    Page(text)
    assert content(text)["figures"]
    assert "&lt;/script&gt;&lt;b&gt;" in text

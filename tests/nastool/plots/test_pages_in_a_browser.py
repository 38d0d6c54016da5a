"""Pages as people use them; skipped only where no browser is found."""

import shutil

import pytest

from nastool.plots.page import Cell, Head, Table, document
from nastool.plots.progress import progress_panels
from nastool.plots.report import members, members_table, study_page
from nastool.problem import Problem

playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Parallel coordinates are drawn by WebGL, which runs on any CPU this way.
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader")  # fmt: skip

READY = "typeof plots === 'object' && plots.size === page.figures.length && Boolean(selected)"

NAMED = """(e => e.dataset.axis || e.placeholder || e.className || e.tagName)
(document.activeElement)"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as running:
        try:
            opened = running.chromium.launch(
                executable_path=found, args=list(ARGUMENTS), timeout=180_000
            )
        except playwright.Error:
            if found:
                raise
            pytest.skip("no browser: install chromium, or run 'playwright install chromium'")
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page; what its console or the network says afterwards fails the test."""
    said, contexts = [], []

    def asked(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            said.append(f"asks for {request.url}")

    def open_page(text, width=1280, scheme="light"):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            accept_downloads=True,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", asked)
        page.goto(file.as_uri())
        page.wait_for_function(READY)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def three(problem, toy):
    """A study of three objectives."""
    return toy.run(Problem(problem.space, (*problem.objectives, toy.Score("speed", "s"))), 40)


def values(page, column):
    rows = "[...document.querySelectorAll('#members tbody tr')]"
    return page.evaluate(f"{rows}.map(r => +r.cells[{column}].dataset.value)")


def test_a_page_is_used_with_the_mouse(visit, three):
    page = visit(study_page("mine", three, {}))
    rows, name = page.locator("#members tbody tr"), page.locator("#shape .name")
    count = rows.count()
    # Sort: rising, then falling.
    heading = page.locator("#members th button", has_text="params")
    heading.click()
    rising = values(page, 2)
    assert rising == sorted(rising)
    heading.click()
    assert values(page, 2) == rising[::-1]
    # A row selects, and is marked in the figure.
    rows.first.click()
    shape = rows.first.locator("td").first.inner_text()
    assert name.inner_text() == shape
    assert page.evaluate("plots.get('front').element.data.at(-1).x.length") == 1
    page.get_by_role("button", name="Copy shape").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == shape
    # A column of the heat map selects another one.
    page.evaluate("""plots.get('shapes-0').element.emit('plotly_click',
        {points: [{pointIndex: [0, 0]}]})""")
    assert name.inner_text() == page.evaluate("page.columns['shapes-0'][0].text")
    # Two side by side, layer by layer.
    page.get_by_role("button", name="Compare with…").click()
    rows.nth(count // 2).click()
    assert page.locator("#shape rect.two").count() == page.locator("#shape rect.one").count() == 4
    assert "of 4 differ" in page.locator("#shape h3").inner_text()
    # Another axis of the projection.
    page.locator("#front-tools select[data-axis=x]").select_option(label="speed")
    page.wait_for_function("plots.get('front').element.layout.xaxis.title.text.startsWith('speed')")
    # What is brushed along an axis filters the table, as a typed range does.
    low = sorted(rising)[count // 2]
    status = page.locator("output")
    page.evaluate(f"""Plotly.restyle(plots.get('parallel').element,
        {{'dimensions[1].constraintrange': [[0, {low}]]}}, [0])""")
    left = sum(value <= low for value in rising)
    page.wait_for_function(f"document.querySelector('output').textContent.startsWith('{left} of')")
    assert page.locator("#members tbody tr:visible").count() == left
    page.get_by_role("button", name="All shapes").click()
    page.wait_for_function(f"document.querySelector('output').textContent.startsWith('{count} of')")
    page.get_by_label("params to").fill(str(low))
    page.get_by_label("params to").press("Enter")
    page.wait_for_function(f"document.querySelector('output').textContent.startsWith('{left} of')")
    assert status.inner_text() == f"{left} of {count} shapes"
    # The file holds what is left, as numbers.
    with page.expect_download() as download:
        page.locator("button.save[data-table=members]").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "shape,loss,params,speed"
    assert [float(line.split(",")[2]) for line in lines[1:]] == sorted(
        (value for value in rising if value <= low), reverse=True
    )


def test_a_narrow_page_is_used_with_the_keyboard_alone(visit, three):
    page = visit(study_page("mine", three, {}), 400, "dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    page.keyboard.press("Enter")
    assert page.evaluate(theme) == "light"
    page.wait_for_function("plots.get('front').element._fullLayout.font.color === '#1f2937'")
    reached = []
    while not reached or (reached[-1] != "selected" and len(reached) < 60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAMED))
    # In the order in which it is read: axes, ranges, the table's file, its headings, its rows.
    order = [reached.index(stop) for stop in ("y", "x", "from", "to", "save", "selected")]
    assert order == sorted(order)
    name = page.locator("#shape .name")
    before = name.text_content()
    page.keyboard.press("ArrowDown")
    assert name.text_content() != before
    assert page.locator("tr.selected td").first.inner_text() == name.text_content()
    # Nothing is wider than the window, and the selected shape stays in sight wherever one reads.
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    box = page.locator("#shape").bounding_box()
    assert 0 <= box["y"] < 900
    page.get_by_role("button", name="Show the shape").click()
    assert page.locator("#shape svg").is_visible()


def test_a_wide_page_looks_again_and_keeps_what_was_selected(visit, three, tmp_path):
    gains = (*progress_panels(three), Table("words", ("a", "b"), ((Cell("x"), Cell("1", 1)),)))
    head, rows = Head("running"), members("", three)
    table = members_table(three.problem, rows, "")
    page = visit(document(head, (*gains, table), three.problem.space, rows, refresh=60), 1600)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1600
    # From here on the minute passes when the test says so: nothing is read while it is written.
    page.clock.install()
    page.reload()
    page.wait_for_function(READY)
    last = page.locator("#members tbody tr").last
    shape = last.locator("td").first.inner_text()
    last.click()
    ended = document(Head("ended"), (*gains, table), three.problem.space, rows, refresh=1e6)
    (tmp_path / "page.html").write_text(ended, encoding="utf-8")
    assert page.title() == "running"
    page.clock.fast_forward(60_000)
    page.wait_for_function(f"document.title === 'ended' && {READY}")
    assert page.locator("#shape .name").inner_text() == shape

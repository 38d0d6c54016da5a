"""Pages as people use them; skipped only where no browser is found."""

import shutil

import pytest

from nastool.plots.report import study_page
from nastool.problem import Problem

playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Parallel coordinates are drawn by WebGL, which runs on any CPU this way.
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader")  # fmt: skip


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
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", asked)
        page.goto(file.as_uri())
        page.wait_for_function("plots.size == page.figures.length && selected")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def of_three(problem, toy):
    return study_page(
        "mine", toy.run(Problem(problem.space, (*problem.objectives, toy.Score("speed", "s")))), {}
    )


def test_a_page_sorts_selects_and_compares(visit, of_three):
    page = visit(of_three)
    rows = page.locator("#members tbody tr")
    count = rows.count()
    # Sort: rising, then falling.
    heading = page.locator("#members th button", has_text="params")
    values = (
        "[...document.querySelectorAll('#members tbody tr')].map(r => +r.cells[2].dataset.value)"
    )
    heading.click()
    rising = page.evaluate(values)
    assert rising == sorted(rising)
    heading.click()
    assert page.evaluate(values) == rising[::-1]
    # A row selects, and is marked in the figure.
    rows.first.click()
    shape = rows.first.locator("td").first.inner_text()
    assert page.locator("#shape .name").inner_text() == shape
    ring = "plots.get('front').element.data.at(-1).x.length"
    assert page.evaluate(ring) == 1
    # A column of the heat map selects another one.
    page.evaluate("""plots.get('shapes-0').element.emit('plotly_click',
        {points: [{pointIndex: [0, 0]}]})""")
    assert page.locator("#shape .name").inner_text() == page.evaluate(
        "page.columns['shapes-0'][0].text"
    )
    # Two side by side, layer by layer.
    page.get_by_role("button", name="Compare with…").click()
    rows.nth(count // 2).click()
    assert page.locator("#shape rect.two").count() == page.locator("#shape rect.one").count() == 4
    assert "of 4 differ" in page.locator("#shape h3").inner_text()

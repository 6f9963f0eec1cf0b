"""The page in a browser, as its readers see it."""

import shutil

import pytest

from tests.reporting.rows import report

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium")

HOSTILE = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens the page of a report and holds it against complaints."""
    pages = []

    def open_page(made, **settings):
        made.to_html(tmp_path / "page.html", title="a report")
        page = browser.new_page(**settings)
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        pages.append((page, complaints))
        return page

    yield open_page
    for page, complaints in pages:
        assert complaints == [(tmp_path / "page.html").as_uri()]
        page.close()


def both_ways(layers):
    return report(
        *(
            {"layer": f"layer{i}", "direction": way, "value": value * sign, "stderr": 0.1}
            | ({"findings": ["Something is odd. Look. [odd-thing]"]} if i % 2 else {})
            for i, value in enumerate(layers)
            for way, sign in (("forward", 1), ("inverse", -1))
        )
    )


def names(page):
    return page.locator(".ip-rows tbody tr:visible th").all_text_contents()


def test_forward_and_inverse_face_each_other(opened):
    page = opened(both_ways([3.0, 1.0]))
    assert page.locator(".direction").all_text_contents() == ["forward", "inverse"]
    cells = page.locator(".ip-rows tbody tr").first.locator("td[data-value]")
    assert cells.all_text_contents() == ["3.0000 ± 0.10", "-3.0000 ± 0.10"]


def test_a_head_sorts_up_and_down_and_back_also_by_keyboard(opened):
    page = opened(both_ways([3.0, 1.0, 20.0, 2.0]))
    head = page.get_by_role("button", name="H(output)")
    assert head.count() == 2
    head.first.focus()
    page.keyboard.press("Enter")
    assert names(page) == ["layer1", "layer3", "layer0", "layer2"]
    page.keyboard.press("Enter")
    assert names(page) == ["layer2", "layer0", "layer3", "layer1"]
    assert page.locator("[aria-sort=descending]").count() == 1
    page.keyboard.press("Enter")
    assert names(page) == ["layer0", "layer1", "layer2", "layer3"]
    head.last.click()  # the values of the inverse pass have the opposite order
    assert names(page) == ["layer2", "layer0", "layer3", "layer1"]


def test_layers_are_sorted_by_the_numbers_in_their_names(opened):
    page = opened(both_ways([1.0] * 11))
    page.get_by_role("button", name="layer").click()
    assert names(page)[:3] == ["layer0", "layer1", "layer2"]


def test_the_filter_shows_the_layers_that_match(opened):
    page = opened(both_ways([1.0] * 12))
    page.get_by_role("searchbox").fill("LAYER1")
    assert names(page) == ["layer1", "layer10", "layer11"]
    assert page.locator("#ip-shown").text_content() == "3 of 12"
    page.get_by_role("searchbox").fill("")
    assert len(names(page)) == 12


def test_a_value_leads_to_its_finding_and_back(opened):
    page = opened(both_ways([1.0, 2.0]))
    page.locator("sup a").first.click()
    assert page.locator("details").get_attribute("open") is not None
    page.locator("details a").first.click()
    assert "2.0000" in page.locator("td:target").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_follow_the_reader(opened, scheme):
    page = opened(both_ways([1.0]), color_scheme=scheme)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_hostile_texts_run_nothing(opened):
    texts = dict.fromkeys(("layer", "type", "measure", "estimator", "reference", "unit"), HOSTILE)
    made = report({**texts, "findings": [HOSTILE]}, {**texts, "layer": "b", "value": None})
    made.settings[HOSTILE] = HOSTILE
    page = opened(made)
    assert page.title() == "a report"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    page.get_by_role("button").first.click()  # a head that is made anew from its text
    assert page.title() == "a report"


def test_five_hundred_layers(opened):
    page = opened(both_ways([float(i) for i in range(500)]))
    page.get_by_role("searchbox").fill("layer499")
    assert names(page) == ["layer499"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_long_settings_fit_a_narrow_page(opened):
    made = both_ways([1.0])
    made.settings["bin width of " + "x" * 100] = "y" * 400
    page = opened(made)
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

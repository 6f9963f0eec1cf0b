import re
from pathlib import Path
from types import ModuleType

import infoprobe as ip

DOCS = Path(__file__).parents[1] / "docs"
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: infoprobe\.([\w.]+)$", re.MULTILINE)


def documented():
    pages = (DOCS / "api").glob("*.md")
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text("utf-8"))]


def public():
    for name in ip.__all__:
        value = getattr(ip, name)
        if isinstance(value, ModuleType):
            yield from (f"{name}.{inner}" for inner in value.__all__)
        elif name != "__version__":
            yield name


def in_integrations(name):
    return name.startswith("integrations.")


def test_the_api_has_every_public_name_once():
    expected = {name.replace("models.SCH", "models.schedules.SCH") for name in public()}
    assert sorted(x for x in documented() if not in_integrations(x)) == sorted(expected)
    assert sum(map(in_integrations, documented())) == 4


def test_every_page_is_in_the_tree():
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    listed = {"index"}
    for page in pages:
        text = (DOCS / f"{page}.md").read_text("utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(Path(page).parent / name).as_posix() for name in names}
    assert listed == pages


def test_the_page_of_the_main_job_shows_its_rows():
    folder = DOCS / "compare_autoencoders"
    page = (folder / "README.md").read_text("utf-8")
    for model in ("invertible", "classical"):
        assert repr(ip.Report.load(folder / f"{model}.json")) in page

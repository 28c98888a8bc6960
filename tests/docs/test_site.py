"""The documentation site: every page is in it, links lead somewhere, and what is generated is complete.

`mkdocs build --strict`, a step of .ci/run, checks all links and anchors between the pages of the site.
"""

import importlib.util
import re
from types import ModuleType

import pytest

from tests.docs.pages import PAGES, ROOT, text

# What a stranger wants to do, in the words of a link of index.md -> the page that it opens.
TASKS = {
    "caption a pair of images from the command line": "tutorial_analyst.md",
    "caption a scene, two GeoTIFFs, and open it in QGIS": "tutorial_analyst.md",
    "serve a page to colleagues": "serving.md",
    "convert LEVIR-CC and check it": "data.md",
    "train a change encoder on one GPU": "training.md",
    "resume an interrupted training run": "training.md",
    "evaluate a checkpoint, with change maps": "eval.md",
    "compare two runs": "eval.md",
    "plug in a change encoder of my own": "change_encoder.md",
    "use a published checkpoint (UniRS, CCExpert)": "systems.md",
    "run a quantised model on a CPU": "quantize.md",
    "train on several GPUs or machines": "distributed.md",
    "check and measure a GPU machine": "gpu.md",
    "Python API": "api/model.md",
}


def loaded(name: str) -> ModuleType:
    """A module of docs/site."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(page: str) -> list[str]:
    """The relative links of a page, to files and headings."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text(page)) if not re.match(r"[a-z]+:", link)]


def slug(heading: str) -> str:
    """The anchor that GitHub and the site give a heading."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md" and not anchor.startswith("btcchat."):
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page}: {link}"


def test_a_link_of_a_notebook_leads_to_a_page():
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        found = re.findall(r"\]\((\.\./docs/[^)\s]+)\)", notebook.read_text(encoding="utf-8"))
        assert found and all((notebook.parent / link).is_file() for link in found), (notebook.name, found)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    shown = set(re.findall(r": ([\w/]+\.(?:md|ipynb))$", navigation, re.MULTILINE))
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    notebooks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert shown == pages | notebooks | {"CONTRIBUTING.md", "CHANGELOG.md"}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_one_click_from_the_start(task):
    assert re.search(rf"\[{re.escape(task)}\]\({re.escape(TASKS[task])}[#)]", text("docs/index.md"))


def test_the_page_of_errors_has_the_messages_of_the_source():
    site = loaded("messages")
    found = list(site.messages(ROOT / "btcchat"))
    assert len(found) > 400
    listed = site.message_list(ROOT / "btcchat")
    assert "unknown option &#x27;{option}&#x27; of change encoder &#x27;{name}&#x27;; it has {...}" in listed
    assert {site.area(path) for path, _ in found} == set(re.findall(r"^### (.+)$", listed, re.MULTILINE))


def test_a_docstring_becomes_a_list_of_its_parameters():
    pytest.importorskip("griffe")
    site = loaded("docstrings")
    written = "Ask.\n\ndevice: auto or cpu. dtype, base: as\nthere. See :meth:`load`.\nRaises BTCChatError."
    assert site.as_markdown(written, ["device", "dtype", "base"]) == (
        "Ask.\n\n\n- `device`: auto or cpu. \n- `dtype, base`: as\nthere. See `load`.\n\nRaises BTCChatError."
    )

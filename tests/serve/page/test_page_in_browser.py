"""The page as a person uses it: a pair, its caption, swipe, change map and conversation; a reload; a phone."""

import json

import pytest
from PIL import Image
from playwright.sync_api import expect

from btcchat import BTCChat
from tests.serve.page.conftest import PAIR, SECONDS, answer, ask, choose, load_pair

HOSTILE = "<img src=x onerror='document.title=1'>"


@pytest.fixture(scope="module")
def model():
    return BTCChat.from_pretrained(device="cpu")


def alphas(page) -> list[int]:
    """The alpha values of the change map's pixels as drawn."""
    script = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, at) => at % 4 === 3)"
    return page.locator("#map-picture").evaluate(script)


def slide(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })) }",
        value,
    )


def wait_until_stored(page, condition) -> None:
    """Wait until what the browser keeps beside the files, which it stores a moment later, meets a condition."""
    script = """() => new Promise((resolve) => {
        indexedDB.open("btcchat").onsuccess = ({ target: { result: base } }) => {
            const asked = base.transaction("page").objectStore("page").get("rest")
            asked.onsuccess = () => { base.close(); resolve(asked.result) }
        }
    })"""
    for _ in range(20 * SECONDS):
        kept = page.evaluate(script)
        if kept is not None and condition(kept):
            return
        page.wait_for_timeout(50)
    pytest.fail("it was not stored")


def test_an_uploaded_pair_is_captioned_as_from_python(page, model):
    load_pair(page)
    assert page.locator("image-swipe figcaption").all_inner_texts() == ["Before", "After"]
    page.click("#describe")
    assert answer(page) == model.caption(*PAIR)
    assert "What changed" in page.locator("#turns article").inner_text()
    expect(page.locator("#status")).to_have_text(answer(page))  # what a screen reader says
    assert (
        page.locator("#demo").is_visible() and "knows nothing about real imagery" in page.locator("#demo").inner_text()
    )


def test_two_files_are_put_in_order_by_name_and_can_be_swapped(page):
    load_pair(page, PAIR[::-1])
    names = page.locator(".slot strong")
    assert names.all_inner_texts() == ["before.png", "after.png"]
    page.get_by_role("button", name="Swap before and after").click()
    expect(names).to_have_text(["after.png", "before.png"])


def test_the_swipe_moves_by_keyboard_and_says_where_it_is(page):
    load_pair(page)
    slider = page.get_by_role("slider", name="Swipe between Before and After")
    later = page.locator("image-swipe figure").nth(1)
    slider.focus()
    assert slider.get_attribute("aria-valuetext") == "50 % Before, 50 % After"
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "100 % Before, 0 % After"
    assert "100%" in later.evaluate("figure => getComputedStyle(figure).clipPath")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert 0 < float(slider.input_value()) < 10


def test_the_change_map_is_drawn_with_an_opacity_from_a_threshold(page, model):
    load_pair(page)
    page.get_by_role("switch", name="Change map").check()
    page.locator("#map-tools").wait_for()
    drawn, levels = alphas(page), model.change_map(*PAIR)
    assert len(drawn) == levels.size and max(drawn) == round(0.75 * 255)
    assert drawn.index(max(drawn)) in (levels >= levels.max() - 1 / 255).flatten().nonzero()[0]
    slide(page, "#map-opacity", 100)
    assert max(alphas(page)) == 255
    slide(page, "#map-threshold", 0.2)
    threshold = float(page.input_value("#map-threshold"))
    share = sum(map(bool, alphas(page))) / levels.size
    assert share == pytest.approx((levels >= threshold).mean(), abs=0.01)
    shown, _ = page.inner_text("#map-share").split(" % of the image")
    assert float(shown) == pytest.approx(100 * share, abs=0.5)
    page.get_by_role("switch", name="Change map").uncheck()
    assert page.locator("#map-picture").is_hidden()


def test_an_answer_appears_as_it_is_written(page):
    page.get_by_text("Image", exact=True).click()
    page.locator(".example").click()
    page.evaluate("""() => {
        window.lengths = new Set()
        const look = () => lengths.add(document.querySelector(".answer")?.textContent.length ?? 0)
        const what = { childList: true, characterData: true, subtree: true }
        new MutationObserver(look).observe(document.querySelector("#turns"), what)
    }""")
    assert "scene of grass" in ask(page, "Describe the scene.")
    assert page.evaluate("lengths.size") > 5


def test_later_questions_are_sent_with_the_earlier_turns(page, model):
    load_pair(page)
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if "completions" in request.url else None)
    first = ask(page, "Were trees planted?")
    assert first == model.ask("Were trees planted?", pair=PAIR)
    ask(page, "Was a road removed?")
    assert [message["content"] for message in sent[1]["messages"][1:]] == [first, "Was a road removed?"]
    assert [part["type"] for part in sent[1]["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert sent[1]["modality"] == "pair" and sent[1]["stream"] is True
    page.get_by_role("button", name="Settings").click()
    page.fill("#max_tokens", "1")
    page.get_by_role("button", name="Done").click()
    ask(page, "What changed?")
    assert sent[2]["max_tokens"] == 1 and "Cut off" in page.locator(".foot").last.inner_text()


def test_an_answer_can_be_stopped_by_keyboard(page):
    load_pair(page)
    page.route("**/v1/chat/completions", lambda route: None)  # never answered
    page.fill("#question", "Were trees planted?")
    page.locator("#send").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(".foot", has_text="Stopped").wait_for()
    expect(page.locator("#question")).to_be_focused()
    page.unroute("**/v1/chat/completions")
    assert ask(page, "Were trees planted?")


def test_a_reload_keeps_images_conversation_and_settings(page):
    load_pair(page)
    reply = ask(page, "Were trees planted?")
    page.get_by_role("switch", name="Change map").check()
    page.locator("#map-tools").wait_for()
    wait_until_stored(page, lambda kept: kept["map"]["on"] and kept["sessions"]["pair"]["turns"])
    page.reload()
    page.locator("#map-picture").wait_for()
    assert answer(page) == reply and page.locator("#turns .question").inner_text() == "Were trees planted?"
    page.get_by_role("button", name="New").click()
    wait_until_stored(page, lambda kept: not kept["sessions"]["pair"]["turns"])
    page.reload()
    page.locator("#model").wait_for()
    assert page.locator(".zone").count() == 2 and page.locator("#turns article").count() == 0


def test_a_phone_shows_everything_without_scrolling_sideways(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 390
    page.locator(".example").tap()
    page.locator("#describe").tap()
    assert answer(page) and page.locator("#turns article").first.bounding_box()["y"] < 844
    page.locator("#map-on").check()
    page.locator("#map-tools").wait_for()
    assert page.evaluate(wide) == 390
    box = page.locator("#composer").bounding_box()
    assert box["y"] + box["height"] <= 844


def test_downloads_are_a_picture_and_the_answers_as_json(page, tmp_path):
    page.locator("#downloads").click()
    assert page.locator("#download-menu button:enabled").count() == 0
    page.keyboard.press("Escape")
    load_pair(page)
    reply = ask(page, "Were trees planted?")
    page.locator("#map-on").check()
    page.locator("#map-tools").wait_for()

    def download(name: str):
        page.locator("#downloads").click()
        with page.expect_download() as started:
            page.locator(f"#download-{name}").click()
        path = tmp_path / started.value.suggested_filename
        started.value.save_as(path)
        return path

    record = json.loads(download("json").read_text())
    assert record["model"] == "tiny" and [image["name"] for image in record["images"]] == ["before.png", "after.png"]
    assert record["conversation"][0]["answer"] == reply and record["change_map"]["shown"] is True
    picture = Image.open(download("picture"))
    assert picture.format == "PNG" and picture.width > 3 * 512 and picture.height > 512
    assert Image.open(download("map")).mode == "L"
    page.locator("#downloads").click()
    page.locator("#download-geotiff").click()
    expect(page.locator("#fault")).to_contain_text("has no coordinate reference system; request a PNG")


def test_names_and_answers_are_text_and_never_html(page):
    chunk = {"choices": [{"index": 0, "delta": {"content": HOSTILE}, "finish_reason": None}]}
    body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    named = [
        {"name": f"{number}{HOSTILE}.png", "mimeType": "image/png", "buffer": PAIR[number].read_bytes()}
        for number in (0, 1)
    ]
    choose(page, *named)
    page.locator("image-swipe").wait_for()
    assert ask(page, HOSTILE) == HOSTILE
    assert page.locator("#turns .question").inner_text() == HOSTILE
    assert HOSTILE in page.locator(".slot strong").first.inner_text()
    assert page.locator("img[onerror]").count() == 0 and page.title() != "1"

"""Ways to add images, other modalities, errors and the API key."""

import json

import numpy as np
import rasterio
from playwright.sync_api import expect

from btcchat.assets import PACKAGE
from tests.serve.page.conftest import PAIR, answer, ask, choose, load_pair

EXAMPLES = PACKAGE / "serve" / "page" / "examples"
TRANSFER = """([kind, names, selector]) => {
    const data = new DataTransfer()
    for (const [name, bytes] of names) data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }))
    const options = { bubbles: true, cancelable: true }
    const event = kind === "paste" ? new ClipboardEvent(kind, { ...options, clipboardData: data })
        : new DragEvent(kind, { ...options, dataTransfer: data })
    document.querySelector(selector).dispatchEvent(event)
}"""


def transfer(page, kind: str, *paths, selector: str = "body") -> None:
    page.evaluate(TRANSFER, [kind, [[path.name, list(path.read_bytes())] for path in paths], selector])


def test_a_pair_can_be_dropped_or_pasted(page):
    transfer(page, "drop", *PAIR[::-1])
    page.locator("image-swipe").wait_for()
    assert page.locator(".slot strong").all_inner_texts() == ["before.png", "after.png"]
    page.get_by_role("button", name="New").click()
    transfer(page, "paste", PAIR[0])
    page.locator(".zone.filled").wait_for()
    transfer(page, "paste", PAIR[1])
    page.locator("image-swipe").wait_for()
    assert page.locator(".slot strong").all_inner_texts() == ["before.png", "after.png"]


def test_one_file_goes_where_it_is_dropped(page):
    transfer(page, "drop", PAIR[0], selector=".zone[data-slot='1']")
    page.locator(".zone[data-slot='1'].filled").wait_for()
    assert page.locator(".zone[data-slot='0'].filled").count() == 0


def test_geotiffs_are_shown_as_the_model_sees_them_with_the_bands_chosen_in_the_settings(page, tmp_path):
    paths = [tmp_path / name for name in ("t1_2019.tif", "t2_2021.tif")]
    for path in paths:
        values = np.random.default_rng(1).integers(0, 3000, (4, 32, 48), dtype=np.uint16)
        profile = {"driver": "GTiff", "width": 48, "height": 32, "count": 4, "dtype": "uint16"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(values)
    load_pair(page, paths)
    assert page.locator("image-swipe figcaption").all_inner_texts() == ["Before 2019", "After 2021"]
    assert "48 × 32 · bands 1, 2, 3" in page.locator(".slot").first.inner_text()
    first = page.locator("image-swipe img").first.get_attribute("src")
    page.get_by_role("button", name="Settings").click()
    page.fill("#bands", "4,3,2")
    page.select_option("#stretch", "values")
    page.fill("#low", "0")
    page.fill("#high", "3000")
    page.get_by_role("button", name="Done").click()
    page.locator(".slot", has_text="bands 4, 3, 2 · 0 to 3000").first.wait_for()
    assert page.locator("image-swipe img").first.get_attribute("src") != first


def test_a_series_is_sorted_by_its_dates_which_are_sent_with_the_question(page):
    page.get_by_text("Series", exact=True).click()
    choose(page, *(EXAMPLES / f"{year}.webp" for year in (2022, 2016, 2019)))
    page.locator("image-swipe").wait_for()
    assert [page.locator(".date").nth(at).input_value() for at in range(3)] == ["2016", "2019", "2022"]
    assert page.locator("image-swipe figcaption").all_inner_texts() == ["2019", "2022"]
    page.get_by_role("button", name="Compare 2019 with 2016").click()
    assert page.locator("image-swipe figcaption").all_inner_texts() == ["2016", "2019"]
    with page.expect_request("**/v1/chat/completions") as request:
        assert ask(page, "When did it happen?") == "between the second and the third date"
    assert request.value.post_data_json["dates"] == ["2016", "2019", "2022"]
    page.get_by_role("button", name="Move 2016 later").focus()
    page.keyboard.press("Enter")  # the dates are drawn again, and the focus follows the one that moved
    expect(page.locator(".date").first).to_have_value("2019")
    expect(page.get_by_role("button", name="Move 2016 later")).to_be_focused()
    page.get_by_role("button", name="Remove 2019").click()
    expect(page.locator(".strip li")).to_have_count(2)


def test_a_video_is_played_and_its_frames_are_shown(page):
    page.get_by_text("Video", exact=True).click()
    page.locator(".example").click()
    page.locator("video").wait_for()
    assert page.locator(".strip img").count() == 8
    assert page.locator("video").evaluate("clip => clip.error") is None
    assert ask(page, "What happens in this video?") == "in the second half , on the left a pond was dug ."


def test_one_image_has_its_own_conversation(page):
    load_pair(page)
    ask(page, "Were trees planted?")
    page.get_by_text("Image", exact=True).click()
    page.locator(".example").click()
    page.locator("#stage > figure").wait_for()
    assert page.locator("#turns article").count() == 0 and page.locator("#map").is_hidden()
    assert ask(page, "How many houses are there?") == "none"
    page.get_by_text("Pair", exact=True).click()
    assert page.locator("#turns .question").inner_text() == "Were trees planted?"


def test_an_error_of_the_server_is_shown_as_one_line(page):
    choose(page, {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.locator("#fault").wait_for()
    assert "image" in page.inner_text("#fault") and "\n" not in page.inner_text("#fault")
    load_pair(page)
    assert page.locator("#fault").is_hidden()
    line = "the queue is full; try again later"
    refusal = {"status": 429, "json": {"error": {"message": line}}, "headers": {"Retry-After": "1"}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**refusal))
    page.click("#describe")
    assert line in page.locator("#turns .fault").inner_text()
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Try again").click()
    assert "pond" in answer(page)
    assert page.locator("#turns article").count() == 1


def test_files_above_the_servers_limit_are_refused_before_they_are_sent(open_page, address):
    page = open_page()
    info = page.request.get(f"{address}/v1/info").json()
    info["limits"]["body_bytes"] = 2**17
    page.route("**/v1/info", lambda route: route.fulfill(json=info))
    page.reload()
    page.locator("#model").wait_for()
    choose(page, *PAIR)
    expect(page.locator("#fault")).to_have_text(
        "These files have 0.2 MiB in total; this server accepts at most 0.1 MiB."
    )


def test_the_page_asks_for_the_key_and_sends_it(open_page):
    page = open_page()
    seen = []

    def guard(route):
        seen.append(route.request.headers.get("authorization"))
        if seen[-1] == "Bearer right":
            return route.continue_()
        return route.fulfill(status=401, json={"error": {"message": "an API key is needed"}})

    page.route("**/v1/**", guard)
    page.reload()
    page.get_by_label("API key of this server").fill("right")
    page.keyboard.press("Enter")
    page.locator("#model").wait_for()
    load_pair(page)
    assert page.locator("#fault").is_hidden() and seen[-1] == "Bearer right"


def test_the_page_waits_while_the_model_is_loading(open_page):
    page = open_page()
    left = [1]
    body = json.dumps({"error": {"message": "the model is being loaded; try again later"}})

    def loading(route):
        return (
            route.fulfill(status=503, body=body, headers={"Retry-After": "1"})
            if left and left.pop()
            else route.continue_()
        )

    page.route("**/v1/info", loading)
    page.reload()
    page.get_by_text("The model is loading").wait_for()
    page.locator("#model").wait_for()
    assert page.locator("#fault").is_hidden()

"""Product folders of Sentinel-2 and Landsat: their bands, dates, clouds and offsets."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from btcchat.errors import BTCChatError
from btcchat.geo.inputs import find_files
from btcchat.geo.plan import Plan
from btcchat.geo.settings import Settings
from tests.geo.drawn import CORNER, picture, run_command, write


def safe_folder(folder, day: str, level: str, bands: dict[str, np.ndarray]):
    """A Sentinel-2 folder. level: 1C or 2A. bands: B04 and their like of 10 m, SCL of 20 m."""
    name = f"S2A_MSIL{level}_{day}T095032_N0204_R079_T33TUH_{day}T095034.SAFE"
    for band, values in bands.items():
        gsd = 20 if band == "SCL" else 10
        place, end = (f"R{gsd}m", f"_{gsd}m") if level == "2A" else ("", "")
        images = folder / name / "GRANULE" / f"L{level}_T33TUH" / "IMG_DATA" / place
        images.mkdir(parents=True, exist_ok=True)
        options = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": 100, "gsd": float(gsd), "nodata": 0}
        write(images / f"T33TUH_{day}T095032_{band}{end}.jp2", values, **options)
    return folder / name


def reflectances() -> np.ndarray:
    return picture().astype(np.uint16) * 12 + 300


def rgb(values: np.ndarray) -> dict[str, np.ndarray]:
    return {band: values[..., number] for number, band in enumerate(("B04", "B03", "B02"))}


def test_two_sentinel_2_folders_are_read_as_jpeg_2000_with_one_stretch(tmp_path, stub):
    days = (("20160822", 0), ("20180822", 40))
    folders = [safe_folder(tmp_path, day, "1C", rgb(reflectances() + brighter)) for day, brighter in days]
    assert run_command(*folders, "--out", tmp_path / "out", "--tile", 128, "--threshold", 0.2) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [date["date"] for date in record["dates"]] == ["2016-08-22", "2018-08-22"]
    assert record["ranges"][0] == record["ranges"][1] and record["grid"]["gsd"] == 10
    assert record["counts"] == {"done": 16, "skipped": 0, "failed": 0}


METADATA = """<n1:Level-2A_User_Product><BOA_ADD_OFFSET_VALUES_LIST>
<BOA_ADD_OFFSET band_id="0">-7</BOA_ADD_OFFSET><BOA_ADD_OFFSET band_id="1">-1000</BOA_ADD_OFFSET>
<BOA_ADD_OFFSET band_id="2">-1001</BOA_ADD_OFFSET><BOA_ADD_OFFSET band_id="3">-1002</BOA_ADD_OFFSET>
</BOA_ADD_OFFSET_VALUES_LIST></n1:Level-2A_User_Product>"""


def test_sentinel_2_folders_from_before_and_after_2022_have_the_same_values(tmp_path):
    values = reflectances()
    stored = values.copy()
    stored[:50, :50] = 0
    before = safe_folder(tmp_path, "20200822", "2A", rgb(stored))
    (before / "MTD_MSIL2A.xml").write_text("<n1:Level-2A_User_Product></n1:Level-2A_User_Product>")
    stored[stored > 0] += 1000
    stored += np.where(stored > 0, np.array([2, 1, 0], np.uint16), np.uint16(0))
    after = safe_folder(tmp_path, "20230822", "2A", rgb(stored))
    (after / "MTD_MSIL2A.xml").write_text(METADATA)
    folders = before, after
    with Plan([find_files(folder) for folder in folders], Settings(tile=128)) as plan:
        for date in plan.on_grid:
            read = date.read((0, 0, 384, 384))
            assert (read.values[read.valid] == values[read.valid]).all()
            assert not read.valid[:50, :50].any() and read.valid[50:].all()
        assert [date["offsets"] for date in plan.record()["dates"]] == [[], [-1002, -1001, -1000]]


LANDSAT = ("LC08_L2SP_191031_20160822_20200906_02_T1", "LC09_L2SP_191031_20220822_20230401_02_T1")
CLOUD, FILL = 0b1011000011101000, 1  # QA_PIXEL of Collection 2: cloud with high confidence, and no data


def landsat_folder(folder, product: str, pixels: np.ndarray):
    """A folder of Collection 2, Level 2: reflectances of one band a file, 0 in a wedge, and QA_PIXEL with a cloud."""
    folder.mkdir()
    wedge = np.tri(len(pixels), k=-len(pixels) // 2, dtype=bool)
    values = np.where(wedge[..., None], 0, pixels.astype(np.uint16) * 60 + 7273)  # reflectances of 0 to 0.42
    for band, colour in ((2, 2), (3, 1), (4, 0), (5, 0), (7, 0)):
        write(folder / f"{product}_SR_B{band}.TIF", values[..., colour], gsd=30.0, nodata=0)
    write(folder / f"{product}_ST_B10.TIF", values[..., 0], gsd=30.0, nodata=0)
    quality = np.where(wedge, FILL, 21824).astype(np.uint16)
    quality[:40, -40:] = CLOUD
    write(folder / f"{product}_QA_PIXEL.TIF", quality, gsd=30.0, nodata=1)
    (folder / f"{product}_MTL.txt").write_text(
        "GROUP = LANDSAT_METADATA_FILE\nEND_GROUP = LANDSAT_METADATA_FILE\nEND\n"
    )
    (folder / f"{product}_MTL.json").write_text('{"LANDSAT_METADATA_FILE": {}}')
    return folder, values, wedge


def test_landsat_folders_are_read_in_colour_with_their_dates_and_no_data(tmp_path):
    """The folder need not have the product's name, as after unpacking."""
    folders = [
        landsat_folder(tmp_path / name, product, picture(256)) for name, product in zip("ab", LANDSAT, strict=True)
    ]
    with Plan([find_files(folder) for folder, *_ in folders], Settings(tile=128)) as plan:
        assert plan.dates == ["2016-08-22", "2022-08-22"] and plan.tiles.grid.gsd == 30
        first, last = plan.job.ranges
        assert first == last and 7273 < first[0] < first[1] < 7273 + 60 * 255
        assert sum(f"{product}_QA_PIXEL.TIF" in line for line in plan.text() for product in LANDSAT) == 2
        for date, (_, values, wedge) in zip(plan.on_grid, folders, strict=True):
            read, valid = date.read((0, 0, 256, 256)), ~wedge
            valid[:40, -40:] = False
            assert (read.valid == valid).all() and (read.values[valid] == values[valid]).all()
            small = date.read((0, 0, 256, 256), (32, 32)).valid
            assert not small[:5, -5:].any() and small[5, -1] and small[4, -6]


def test_clouds_are_kept_if_asked_and_the_run_has_other_settings(tmp_path):
    folders = [landsat_folder(tmp_path / product, product, picture(256))[0] for product in LANDSAT]
    files = [find_files(folder) for folder in folders]
    with Plan(files, Settings(tile=128)) as masked, Plan(files, Settings(tile=128, clouds="keep")) as kept:
        assert kept.on_grid[0].read((200, 0, 56, 40)).valid.all()
        assert not masked.on_grid[0].read((216, 0, 40, 40)).valid.any()
        assert [date["clouds"] for date in masked.record()["dates"]] == [f"{one}_QA_PIXEL.TIF" for one in LANDSAT]
        assert [date["clouds"] for date in kept.record()["dates"]] == [None, None]


def test_clouds_of_a_sentinel_2_folder_are_masked_on_a_grid_of_other_pixels(tmp_path):
    """SCL has pixels of 20 m; the other date is in another UTM zone, so that everything is resampled."""
    classes = np.full((192, 192), 4, np.uint8)  # vegetation
    classes[60:120, 60:120] = 9  # a cloud, whose corner is at 1,200 m
    classes[:20, :20] = 11  # snow is ground
    days = (("20160822", classes), ("20180822", np.full_like(classes, 5)))
    folders = [safe_folder(tmp_path, day, "2A", {**rgb(reflectances()), "SCL": scl}) for day, scl in days]
    with Plan([find_files(one) for one in folders], Settings(tile=128, crs="EPSG:32632")) as plan:
        grid = plan.tiles.grid
        valid = plan.on_grid[0].read((0, 0, grid.width, grid.height)).valid
        rows, columns = np.nonzero(valid | True)
        xs, ys = grid.transform @ (columns + 0.5, rows + 0.5)
        xs, ys = map(np.asarray, transform("EPSG:32632", "EPSG:32633", xs, ys))
        across, down = (xs - CORNER[0]) / 20, (CORNER[1] - ys) / 20
        within = (across > 2) & (across < 190) & (down > 2) & (down < 190)
        cloud = (across > 60) & (across < 120) & (down > 60) & (down < 120)
        edge = np.minimum.reduce([abs(value - limit) for value in (across, down) for limit in (60, 120)]) < 0.1
        sure = (within & ~edge).reshape(valid.shape)
        assert (valid == ~cloud.reshape(valid.shape))[sure].all() and plan.on_grid[1].read(
            (60, 60, 200, 200)
        ).valid.all()


def test_a_quality_band_that_is_none_is_refused(tmp_path):
    folder, values, _ = landsat_folder(tmp_path / LANDSAT[0], LANDSAT[0], picture(256))
    band = write(folder / f"{LANDSAT[0]}_QA_PIXEL.TIF", values[..., 0].astype(np.float32), gsd=30.0)
    with pytest.raises(BTCChatError, match="QA_PIXEL.TIF has values of type float32, .* or give --clouds keep"):
        Plan([find_files(folder)] * 2, Settings(tile=128))
    band.write_bytes(b"")
    with pytest.raises(BTCChatError, match="QA_PIXEL.TIF' is empty"):
        Plan([find_files(folder)] * 2, Settings(tile=128))
    with pytest.raises(BTCChatError, match="unknown value of clouds 'hide'; choose from keep, mask"):
        Settings(clouds="hide")


def test_a_date_that_is_all_cloud_is_refused(tmp_path):
    folders = [landsat_folder(tmp_path / product, product, picture(256))[0] for product in LANDSAT]
    with rasterio.open(folders[0] / f"{LANDSAT[0]}_QA_PIXEL.TIF", "r+") as file:
        file.write(np.full((256, 256), CLOUD, np.uint16), 1)
    with pytest.raises(BTCChatError, match="masked or clouds; .* give --clouds keep"):
        Plan([find_files(folder) for folder in folders], Settings(tile=128))


@pytest.mark.slow
def test_two_landsat_folders_are_captioned_by_the_packaged_model(tmp_path, capsys):
    after = picture(256)
    after[150:230, 150:230] = 250
    folders = [
        landsat_folder(tmp_path / product, product, pixels)[0]
        for product, pixels in zip(LANDSAT, (picture(256), after), strict=True)
    ]
    words = ["--tile", 128, "--overlap", 0, "--max-new-tokens", 20, "--device", "cpu", "--dtype", "float32"]
    assert run_command(*folders, "--out", tmp_path / "out", *words) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [date["date"] for date in record["dates"]] == ["2016-08-22", "2022-08-22"]
    assert [[path[-6:-4] for path in date["files"]] for date in record["dates"]] == [["B4", "B3", "B2"]] * 2
    assert record["counts"] == {"done": 3, "skipped": 1, "failed": 0}  # half of a tile's pixels, less one, are valid
    assert "the model was trained on 0.5 m" in capsys.readouterr().err
    features = json.loads((tmp_path / "out" / "tiles.geojson").read_text())["features"]
    found = {feature["properties"]["tile"]: feature["properties"] for feature in features}
    assert all(found[number]["caption"] for number in (0, 1, 3)) and found[2]["caption"] is None
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        change = file.read(1)
    assert np.isnan(change[128:, :128]).all() and change[150:230, 150:230].mean() > 2 * change[:128, :128].mean()

"""The path of a sample's change map."""

from btcchat.eval.runs.folder import map_path


def test_ids_of_any_kind_have_files_of_their_own_in_the_run(tmp_path):
    ids = ["test_1.png", "set/test_1.png", "set_test_1.png", "..", "../a", "a\0b", "é", "\ud83d", "x" * 999, "x" * 998]
    paths = [map_path(tmp_path, one) for one in ids]
    assert len(set(paths)) == len(ids) and {path.parent for path in paths} == {tmp_path / "change_maps"}
    assert paths[0].name == "test_1.png.png"
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch(exist_ok=False)

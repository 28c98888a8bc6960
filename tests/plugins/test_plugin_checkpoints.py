"""A checkpoint names the plugins of its parts, and asks for them in one line; loading it never imports them."""

import json
import sys
from pathlib import Path

import pytest

from btcchat import BTCChat, Processor, plugins
from btcchat.checkpoint import adapter
from btcchat.cli import main
from btcchat.errors import BTCChatError
from tests.plugins.conftest import ALL_KINDS, GATED, gated_model, python
from tests.tiny import tiny_model

SCALED = """
from btcchat.multimodal_projector import PROJECTORS

class Scaled(nn.Linear):
    def __init__(self, in_features, out_features, gain=1.0):
        super().__init__(in_features, out_features)
        self.gain = gain

    def num_tokens(self, count):
        return count

    def forward(self, features):
        return self.gain * super().forward(features)

PROJECTORS["scaled"] = Scaled
"""


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def edit(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def saved(gated, here, tmp_path) -> Path:
    """A checkpoint with the change encoder of the plugin ``gated_plugin``, which is enabled here."""
    plugins.enable_flags([gated])
    return gated_model(tmp_path)


@pytest.fixture
def asked_for(saved, forget) -> str:
    """The error of loading ``saved`` without its plugin."""
    forget()
    return (
        f"{saved} needs the plugin 'gated_plugin' (its change encoder 'gated'); enable it with --plugin gated_plugin, "
        "or BTCCHAT_PLUGINS=gated_plugin (Python: btcchat.plugins.enable('gated_plugin'))"
    )


def test_saving_records_module_version_and_parts(here, tmp_path):
    (here / "mine.py").write_text(f"__version__ = '0.3'\n{GATED}")
    plugins.enable_flags(["mine"])
    saved = gated_model(tmp_path)
    expected = [{"module": "mine", "version": "0.3", "parts": {"change encoder": "gated"}}]
    assert config_of(saved)["plugins"] == expected
    assert BTCChat.from_pretrained(saved).config.plugins == expected


def test_a_later_default_of_a_plugin_does_not_change_a_saved_model(here, forget, tmp_path):
    def parts_of(folder: Path, gain: float) -> list[float]:
        """The gains of the change encoder and the projector, if the plugin's default is ``gain``."""
        forget()
        (here / "mine.py").write_text((GATED + SCALED).replace("gain=1.0", f"gain={gain}"))
        plugins.enable_flags(["mine"])
        model = BTCChat.from_pretrained(folder, device="cpu")
        model.save_pretrained(tmp_path / "again")
        return [model.change_encoder.gain, model.mm_projector.gain]

    (here / "mine.py").write_text(GATED + SCALED)
    plugins.enable_flags(["mine"])
    names = {"change_encoder": {"change_encoder_type": "gated"}, "mm_projector": {"mm_projector_type": "scaled"}}
    saved = tmp_path / "model"
    tiny_model(tmp_path, **names).save_pretrained(saved)
    assert parts_of(saved, 2.0) == [1.0, 1.0]
    edit(saved / "mm_projector/config.json", change_encoder=names["change_encoder"])  # as older versions saved it
    assert parts_of(saved, 2.0) == [2.0, 1.0]
    assert parts_of(tmp_path / "again", 4.0) == [2.0, 1.0]


def test_a_checkpoint_of_our_own_parts_has_no_such_key(tmp_path):
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    assert "plugins" not in config_of(tmp_path / "model")


def test_loading_without_the_plugin_is_one_line(saved, asked_for, capsys):
    for load in (BTCChat.from_pretrained, Processor.from_pretrained):
        with pytest.raises(BTCChatError) as caught:
            load(saved)
        assert str(caught.value) == asked_for
    assert main(["caption", "--example", "--model", str(saved)]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [f"btcchat: error: {asked_for}"]  # after the file names
    assert "gated_plugin" not in sys.modules


def test_a_module_is_not_imported_because_a_checkpoint_names_it(saved, asked_for, here):
    """Although the module could be imported: it is in a folder on sys.path."""
    sys.path.append(str(here))
    (here / "gated_plugin.py").write_text("raise AssertionError('imported')")
    with pytest.raises(BTCChatError, match="needs the plugin 'gated_plugin'"):
        BTCChat.from_pretrained(saved)


def test_the_ways_out_that_the_error_names_work(saved, asked_for, here):
    words = ["-m", "btcchat", "caption", "--example", "--model", str(saved), "--max-new-tokens", "2"]
    assert asked_for in python(words, here).stderr
    for done in (
        python([*words, "--plugin", "gated_plugin"], here),
        python(words, here, BTCCHAT_PLUGINS="gated_plugin"),
    ):
        assert done.returncode == 0, done.stderr
    code = "import btcchat; btcchat.plugins.enable('gated_plugin'); btcchat.BTCChat.from_pretrained({!r})"
    done = python(["-c", code.format(str(saved))], here)
    assert done.returncode == 0, done.stderr


def test_an_installed_plugin_that_a_checkpoint_records_is_loaded(package, tmp_path, forget):
    package("mine_installed", GATED, entry="something")
    plugins.enable("mine_installed")
    saved = gated_model(tmp_path)
    assert config_of(saved)["plugins"][0]["version"] == "1.0"
    forget()
    package("a_first", "raise AssertionError('imported')", entry="gated")  # not the one that is recorded
    BTCChat.from_pretrained(saved)
    assert [one.module for one in plugins.enabled()] == ["mine_installed"]


def test_another_version_gives_one_warning(here, tmp_path, caplog, forget):
    (here / "mine.py").write_text(f"__version__ = '0.3'\n{GATED}")
    plugins.enable_flags(["mine"])
    saved = gated_model(tmp_path)
    forget()
    (here / "mine.py").write_text(f"__version__ = '0.4.1'\n{GATED}")
    plugins.enable_flags(["mine"])
    for _ in range(2):
        BTCChat.from_pretrained(saved)
    assert caplog.messages == [f"{saved} was saved with the plugin 'mine' 0.3; the one in use is 0.4.1"]


def test_a_part_of_the_same_name_from_another_plugin_gives_one_warning(saved, asked_for, here, caplog):
    (here / "renamed.py").write_text(GATED)
    plugins.enable_flags(["renamed"])
    model = BTCChat.from_pretrained(saved)
    assert caplog.messages == [
        f"{saved} was saved with the change encoder 'gated' of the plugin 'gated_plugin'; the one in use is from "
        "'renamed'"
    ]
    model.save_pretrained(saved)
    assert config_of(saved)["plugins"][0]["module"] == "renamed"


def test_a_plugin_that_does_not_register_what_is_recorded_is_named(saved, asked_for, here):
    (here / "gated_plugin.py").write_text("")
    plugins.enable_flags(["gated_plugin"])
    with pytest.raises(BTCChatError) as caught:
        BTCChat.from_pretrained(saved)
    assert str(caught.value) == (
        f"{saved} needs change encoder 'gated' of the plugin 'gated_plugin', which is enabled but does not register it;"
        " use the version of the plugin that the checkpoint was saved with"
    )


def test_a_part_of_a_script_is_recorded_as_such_with_a_warning(here, tmp_path):
    code = (
        GATED
        + f"""
import logging
logging.basicConfig(format="%(message)s")
from pathlib import Path
from tests.plugins.conftest import gated_model
gated_model(Path({str(tmp_path)!r}))
gated_model(Path({str(tmp_path)!r}))
"""
    )
    done = python(["-c", code], here)
    assert done.stderr.count("change encoder 'gated' is defined in a script or notebook (__main__)") == 1, done.stderr
    assert config_of(tmp_path / "model")["plugins"][0]["module"] == "__main__"
    with pytest.raises(BTCChatError, match="defined in a script or notebook .change encoder 'gated'.; move it into a"):
        BTCChat.from_pretrained(tmp_path / "model")


def test_every_kind_of_part_is_recorded(here, tmp_path, forget):
    (here / "mine.py").write_text(ALL_KINDS)
    plugins.enable_flags(["mine"])
    folder = mine_everywhere(gated_model(tmp_path))
    BTCChat.from_pretrained(folder).save_pretrained(folder)
    parts = {
        "change encoder": "gated",
        "vision tower": "my_tower",
        "projector": "my_mm_projector",
        "prompt template": "my_template",
        "language model": "my_llm",
    }
    assert config_of(folder)["plugins"] == [{"module": "mine", "version": None, "parts": parts}]
    forget()
    with pytest.raises(
        BTCChatError, match="its language model 'my_llm', prompt template 'my_template', vision tower 'my_t"
    ):
        BTCChat.from_pretrained(folder)


def mine_everywhere(folder: Path) -> Path:
    """A checkpoint whose parts are those of the plugin, by their names in its files."""
    edit(folder / "vision_tower/config.json", vision_tower_type="my_tower")
    edit(folder / "mm_projector/config.json", mm_projector_type="my_mm_projector")
    edit(folder / "llm/config.json", model_type="my_llm")
    edit(folder / "config.json", conv_version="my_template")
    return folder


def test_a_family_under_another_name_is_saved_by_that_name(here, tmp_path):
    """Its classes are those of llama, so transformers would save it under that name."""
    code = "from btcchat.language_model import LANGUAGE_MODELS as models; models['my_llama'] = models['llama']"
    (here / "mine.py").write_text(code)
    plugins.enable_flags(["mine"])
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    edit(tmp_path / "model/llm/config.json", model_type="my_llama")
    BTCChat.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "again")
    assert BTCChat.from_pretrained(tmp_path / "again").config.llm["model_type"] == "my_llama"
    assert config_of(tmp_path / "again")["plugins"][0]["parts"] == {"language model": "my_llama"}


def test_a_fresh_change_encoder_needs_no_plugin_of_the_old_one(saved, asked_for):
    """A part that is replaced is not required; from_origin refuses the folder for another reason."""
    with pytest.raises(BTCChatError, match="has a change encoder already"):
        BTCChat.from_pretrained(saved, from_origin=True)


def test_an_adapter_records_them_and_merging_keeps_them(saved, asked_for, here, tmp_path, capsys):
    plugins.enable_flags(["gated_plugin"])
    model = BTCChat.from_pretrained(saved, device="cpu")
    from btcchat.checkpoint.folder import open_folder

    model.base = adapter.Base.of(saved, open_folder(saved))
    adapter.attach(model.llm, target_modules=["q_proj"])
    model.save_pretrained(tmp_path / "adapter")
    assert config_of(tmp_path / "adapter")["plugins"] == config_of(saved)["plugins"]
    words = ["export", "--merge", str(tmp_path / "adapter"), str(tmp_path / "merged")]
    assert main(words) == 0
    assert config_of(tmp_path / "merged")["plugins"] == config_of(saved)["plugins"]


@pytest.mark.parametrize("value", ["mine", [{"version": "1"}], {"module": "mine"}, [{"module": "mine"}]])
def test_a_malformed_record_is_one_line(value, tmp_path):
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    edit(tmp_path / "model/config.json", plugins=value)
    with pytest.raises(BTCChatError, match="config.json: plugins is .*, expected a list"):
        BTCChat.from_pretrained(tmp_path / "model")

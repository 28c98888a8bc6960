"""SECOND-CC."""

from typing import Any

from btcchat.data.convert.levir import LevirCC


class SecondCC(LevirCC):
    """SECOND-CC: change captions of 6,041 pairs of Chinese cities, with land cover of both dates

    256 x 256 pixels at 0.3 to 3 m from several sensors (tiles of SECOND: Hangzhou, Chengdu, Shanghai); 30,205
    captions. ``semantic_maps`` are the RGB-coded land cover before and after (six classes); there is no change mask.

    Layout (the annotation file and the splits from the authors' README; the folders of a split from third-party
    loaders; the files were not available)::

        SECOND-CC-AUG.json    {"images": [{"filepath": "train", "filename", "split", "changeflag", "sentences"}, ...]}
        {train,val,test}/{rgb,sem}/{A,B}/    A is before

    Licence: see Zenodo. Source: https://doi.org/10.5281/zenodo.16937571. Cite Karaca et al., JSTARS 2025,
    https://doi.org/10.1109/JSTARS.2025.3600613
    """

    captions_file = "SECOND-CC-AUG.json"
    before_and_after = "{folder}/rgb/A/{name}", "{folder}/rgb/B/{name}"

    def maps(self, folder: str, name: str) -> dict[str, Any]:
        return {"semantic_maps": [f"{folder}/sem/A/{name}", f"{folder}/sem/B/{name}"]}

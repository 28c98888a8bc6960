"""Write polygons with properties as GeoJSON, GeoPackage and GeoParquet, in parts, so that any number fits in memory."""

import json
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from pyproj import CRS

from btcchat.errors import BTCChatError
from btcchat.geo.folder import MAKE_ROOM, output
from btcchat.geo.outputs.style import layer_style
from btcchat.geo.projection import lonlat

KINDS: dict[type, Any] = {int: np.int64, float: np.float64, str: object}
PART = 4096  # rows in memory at a time

Feature: TypeAlias = tuple[shapely.Polygon, Mapping[str, Any]]  # a polygon and its row


@dataclass(frozen=True)
class Table:
    """Polygons in ``crs`` with columns. columns: name to type; a row has a value or None for each.

    features: the rows; an iterator is enough if the table is written once.
    """

    name: str
    crs: CRS
    columns: Mapping[str, type]
    features: Iterable[Feature]

    def parts(self) -> Iterator[list[Feature]]:
        """The features, PART at a time; one empty part if there are none."""
        features = iter(self.features)
        part = list(islice(features, PART))
        yield part
        while part := list(islice(features, PART)):
            yield part


def write_geojson(path: Path, table: Table) -> None:
    """By RFC 7946: longitude and latitude on WGS 84, with seven decimals (a centimetre)."""
    with output(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f'{{"type": "FeatureCollection", "name": {json.dumps(table.name)}, "features": [\n')
        for number, (shape, row) in enumerate(table.features):
            outline = shapely.set_precision(lonlat(shape, table.crs), 1e-7, mode="pointwise")
            feature = {
                "type": "Feature",
                "properties": {name: row.get(name) for name in table.columns},
                "geometry": json.loads(shapely.to_geojson(outline)),
            }
            file.write(f"{',' if number else ''}{json.dumps(feature, ensure_ascii=False)}\n")
        file.write("]}\n")


def write_gpkg(path: Path, table: Table, style: Path | None = None) -> None:
    """A GeoPackage with one layer in the table's CRS. style: a QML file, the layer's style in QGIS."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
    from pyogrio.raw import write

    with output(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about the suffix .part
        file.unlink()
        try:
            for number, part in enumerate(table.parts()):
                columns = [_column(name, table, part) for name in table.columns]
                write(
                    str(file),
                    geometry=_wkb(part),
                    field_data=[values for values, _ in columns],
                    field_mask=[missing for _, missing in columns],
                    fields=list(table.columns),
                    layer=table.name,
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=table.crs.to_wkt(),
                    append=number > 0,
                    dataset_options={"VERSION": "1.3"},  # the newest that QGIS 3.22 to 3.28 know
                )
            if style is not None:
                layer_style(file, table.name, style)
        except (DataSourceError, DataLayerError, FeatureError, sqlite3.Error) as error:
            reason = " ".join(str(error).split())[:160]
            raise BTCChatError(f"{path} cannot be written: {reason}; {MAKE_ROOM}") from error


def write_parquet(path: Path, table: Table) -> None:
    """GeoParquet 1.1, in the table's CRS."""
    import pyarrow
    from pyarrow import parquet

    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    fields = [(name, types[kind]) for name, kind in table.columns.items()]
    column = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": table.crs.to_json_dict()}
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = pyarrow.schema([*fields, ("geometry", pyarrow.binary())], metadata={"geo": json.dumps(about)})
    with output(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for part in table.parts():
            columns = {name: [row.get(name) for _, row in part] for name in table.columns}
            writer.write_table(pyarrow.table({**columns, "geometry": list(_wkb(part))}, schema=schema))


def _column(name: str, table: Table, part: Sequence[Feature]) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column, and which of them are missing."""
    kind = table.columns[name]
    values = [row.get(name) for _, row in part]
    missing = np.array([value is None for value in values], bool)
    return np.array([kind() if value is None else kind(value) for value in values], dtype=KINDS[kind]), missing


def _wkb(part: Sequence[Feature]) -> np.ndarray:
    return np.asarray(shapely.to_wkb(np.array([shape for shape, _ in part], dtype=object)))

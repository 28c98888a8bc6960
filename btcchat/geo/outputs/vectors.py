"""Tables of polygons as GeoJSON, GeoPackage and GeoParquet."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write
from btcchat.geo.outputs.style import layer_style
from btcchat.geo.projection import LONLAT, projected

KINDS: dict[type, Any] = {int: np.int64, float: np.float64, str: object}


@dataclass
class Table:
    """Polygons in ``crs`` with columns. columns: name -> type; a row has a value or None for each of them."""

    name: str
    crs: CRS
    columns: Mapping[str, type]
    shapes: list[shapely.Geometry] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, shape: shapely.Geometry, row: Mapping[str, Any]) -> None:
        self.shapes.append(shape)
        self.rows.append(row)

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Its values, and which of them are missing."""
        kind = self.columns[name]
        values = [row.get(name) for row in self.rows]
        missing = np.array([value is None for value in values], bool)
        filled = [kind() if value is None else kind(value) for value in values]
        return np.array(filled, dtype=KINDS[kind]), missing


def write_geojson(path: Path, table: Table) -> None:
    """By RFC 7946: longitude and latitude on WGS 84, outer rings counterclockwise, seven decimals."""
    shapes = [shapely.orient_polygons(_lonlat(shape, table.crs)) for shape in table.shapes]
    with atomic_write(path, sync=True) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f'{{"type": "FeatureCollection", "name": {json.dumps(table.name)}, "features": [\n')
        for number, (shape, row) in enumerate(zip(shapes, table.rows, strict=True)):
            feature = {
                "type": "Feature",
                "properties": {name: row.get(name) for name in table.columns},
                "geometry": json.loads(shapely.to_geojson(shapely.set_precision(shape, 1e-7, mode="pointwise"))),
            }
            file.write(f"{',' if number else ''}{json.dumps(feature, ensure_ascii=False)}\n")
        file.write("]}\n")


def write_gpkg(path: Path, table: Table, style: Path | None = None) -> None:
    """A GeoPackage with one layer in the table's CRS. style: a QML file that QGIS draws the layer with."""
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
    from pyogrio.raw import write

    names = list(table.columns)
    columns = [table.column(name) for name in names]
    with atomic_write(path, sync=True) as part:
        part.unlink()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # that a file being written ends in .part
                write(
                    str(part),
                    geometry=shapely.to_wkb(np.array(table.shapes, dtype=object)),
                    field_data=[values for values, _ in columns],
                    field_mask=[missing for _, missing in columns],
                    fields=names,
                    layer=table.name,
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=table.crs.to_wkt(),
                )
                if style is not None:
                    layer_style(part, table.name, style)
        except (DataSourceError, DataLayerError, FeatureError) as error:
            raise BTCChatError(f"{path} cannot be written: {' '.join(str(error).split())[:160]}") from error


def write_parquet(path: Path, table: Table) -> None:
    """GeoParquet 1.1, in the table's CRS."""
    import pyarrow
    from pyarrow import parquet

    arrays = {}
    for name in table.columns:
        values, missing = table.column(name)
        arrays[name] = pyarrow.array(
            [None if gap else value for value, gap in zip(values.tolist(), missing, strict=True)]
        )
    arrays["geometry"] = pyarrow.array(shapely.to_wkb(np.array(table.shapes, dtype=object)).tolist(), pyarrow.binary())
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": table.crs.to_json_dict()}
    if table.shapes:
        column["bbox"] = list(shapely.total_bounds(np.array(table.shapes, dtype=object)))
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    content = pyarrow.table(arrays).replace_schema_metadata({"geo": json.dumps(about)})
    with atomic_write(path, sync=True) as part:
        parquet.write_table(content, part)


def _lonlat(shape: shapely.Geometry, crs: CRS) -> Any:
    return projected(shape, crs, LONLAT)


def column_types(rows: Sequence[Mapping[str, Any]]) -> dict[str, type]:
    """The columns of rows by their first values; a column without any is of texts."""
    found: dict[str, type] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None and name not in found:
                found[name] = type(value)
    return {name: found.get(name, str) for row in rows[:1] for name in row}

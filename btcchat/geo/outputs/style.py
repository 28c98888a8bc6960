"""Styles for QGIS, in the table of a GeoPackage that QGIS reads when it opens a layer."""

import sqlite3
from contextlib import closing
from pathlib import Path

from btcchat.assets import PACKAGE

TABLE = """CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))"""
CONTENT = """INSERT INTO gpkg_contents (table_name, data_type, identifier, description)
  VALUES ('layer_styles', 'attributes', 'layer_styles', 'styles of QGIS')"""
ROW = """INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName,
  styleQML, styleSLD, useAsDefault, description, owner)
  VALUES ('', '', ?, ?, 'btcchat', ?, '', 1, 'btcchat scenes', '')"""
# Tiles are filled by change score, changes are outlined; captions are map tips.
TILES, CHANGES = ((PACKAGE / "assets" / "scenes" / name) for name in ("tiles.qml", "changes.qml"))
GEOMETRY = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"


def layer_style(file: Path, layer: str, qml: Path) -> None:
    """Make the QML file ``qml`` the default style of a layer of a GeoPackage."""
    with closing(sqlite3.connect(file)) as connection, connection:
        found = connection.execute(GEOMETRY, (layer,)).fetchone()
        connection.execute(TABLE)
        connection.execute(CONTENT)
        connection.execute(ROW, (layer, found[0] if found else "geom", qml.read_text(encoding="utf-8")))

"""How QGIS draws our layers: its table of styles inside a GeoPackage, which it looks for when a layer is opened."""

import sqlite3
from contextlib import closing
from pathlib import Path

TABLE = """CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME DEFAULT CURRENT_TIMESTAMP)"""
CONTENT = """INSERT INTO gpkg_contents (table_name, data_type, identifier, description)
  VALUES ('layer_styles', 'attributes', 'layer_styles', 'styles of QGIS')"""
ROW = """INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
  styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'btcchat', ?, '', 1, 'btcchat scenes', '')"""
GEOMETRY = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"

# A fill whose opacity follows the change score, with an outline; the caption is the label and the map tip.
TILES = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology|Labeling|MapTips">
 <renderer-v2 type="singleSymbol" enableorderby="0" forceraster="0" symbollevels="0">
  <symbols><symbol type="fill" name="0" alpha="1" clip_to_extent="1"><layer class="SimpleFill" enabled="1" locked="0" pass="0">
   <Option type="Map">
    <Option name="color" type="QString" value="255,32,32,255"/>
    <Option name="outline_color" type="QString" value="70,70,70,160"/>
    <Option name="outline_style" type="QString" value="solid"/>
    <Option name="outline_width" type="QString" value="0.2"/>
    <Option name="outline_width_unit" type="QString" value="MM"/>
    <Option name="style" type="QString" value="solid"/>
   </Option>
   <data_defined_properties><Option type="Map">
    <Option name="name" type="QString" value=""/>
    <Option name="properties" type="Map"><Option name="fillColor" type="Map">
     <Option name="active" type="bool" value="true"/>
     <Option name="expression" type="QString"
      value="color_rgba(255, 32, 32, 200 * sqrt(coalesce(&quot;change&quot;, 0)))"/>
     <Option name="type" type="int" value="3"/>
    </Option></Option>
    <Option name="type" type="QString" value="collection"/>
   </Option></data_defined_properties>
  </layer></symbol></symbols>
 </renderer-v2>
 <mapTip>&lt;b>[% coalesce("caption", "reason") %]&lt;/b>&lt;br>change [% round(100 * "change", 1) %] %</mapTip>
</qgis>"""
CHANGES = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology|MapTips">
 <renderer-v2 type="singleSymbol" enableorderby="0" forceraster="0" symbollevels="0">
  <symbols><symbol type="fill" name="0" alpha="1" clip_to_extent="1"><layer class="SimpleFill" enabled="1" locked="0" pass="0">
   <Option type="Map">
    <Option name="color" type="QString" value="255,32,32,90"/>
    <Option name="outline_color" type="QString" value="255,32,32,255"/>
    <Option name="outline_style" type="QString" value="solid"/>
    <Option name="outline_width" type="QString" value="0.4"/>
    <Option name="outline_width_unit" type="QString" value="MM"/>
    <Option name="style" type="QString" value="solid"/>
   </Option>
  </layer></symbol></symbols>
 </renderer-v2>
 <mapTip>&lt;b>[% "caption" %]&lt;/b>&lt;br>[% round("area_m2") %] m²</mapTip>
</qgis>"""


def layer_style(file: Path, layer: str, qml: str) -> None:
    """Make ``qml`` the default style of a layer of a GeoPackage."""
    with closing(sqlite3.connect(file)) as connection, connection:
        found = connection.execute(GEOMETRY, (layer,)).fetchone()
        connection.execute(TABLE)
        connection.execute(CONTENT)
        connection.execute(ROW, (layer, found[0] if found else "geom", qml))

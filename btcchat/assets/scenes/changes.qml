<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
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
</qgis>

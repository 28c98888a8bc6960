<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
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
      value="color_rgba(255, 32, 32, 90 * sqrt(coalesce(&quot;change&quot; / maximum(&quot;change&quot;), 0)))"/>
     <Option name="type" type="int" value="3"/>
    </Option></Option>
    <Option name="type" type="QString" value="collection"/>
   </Option></data_defined_properties>
  </layer></symbol></symbols>
 </renderer-v2>
 <mapTip>&lt;b>[% coalesce("caption", "reason") %]&lt;/b>&lt;br>change [% round(100 * "change", 1) %] %</mapTip>
</qgis>

"""Ordinary sentences of this field, so that the tiny tokenizer knows more words than the synthetic genre uses."""

SENTENCES = """\
The satellite passed over the city shortly before noon and the shadows were short.
Each pixel covers half a metre on the ground, so cars can be told from trucks.
The aerial photograph was taken from a low-flying aircraft in early spring.
A pair of images taken two years apart shows how the suburb has grown.
New apartment blocks stand where there used to be an open field.
The old factory was pulled down and its site lies empty.
A residential area with winding streets has replaced the farmland in the north.
Several villas with swimming pools were built along the eastern shore.
The bare land in the middle of the picture is now covered by rows of identical houses.
Can you tell me what is different between these two photographs?
Please compare the two dates and list every building that has disappeared.
What kind of land cover do you see in the lower right corner?
Yes, the river is visible in both images, but it is wider in the second one.
No, I cannot see any sign of construction in this part of the scene.
The answer depends on the season in which the picture was taken.
There are about forty houses in the village, most of them with red roofs.
The roofs of the warehouses are bright and reflect the sunlight.
A dense forest covers the slopes on both sides of the valley.
Deciduous trees lose their leaves in autumn, which is not a change of land cover.
The grass is brown in August and green again after the first rain of October.
Clouds hide a part of the town, and their shadows darken the fields beside them.
The flood has covered the fields, the roads and the lower part of the town.
Muddy water surrounds the farm buildings after two days of heavy rain.
After the hurricane many roofs were missing and debris lay in the streets.
The tornado left a clear path of destroyed homes from west to east.
A wildfire burned the hillside and stopped just short of the settlement.
The burnt area appears dark grey, while the vegetation around it is still green.
The earthquake damaged the church, the school and most houses of the old centre.
Collapsed buildings can be recognised by their irregular texture and missing shadows.
The landslide blocked the mountain road and dammed the creek.
A volcanic eruption covered the island with ash and destroyed the harbour.
Rescue teams need to know which bridges are still standing.
Damage is graded as none, minor, major or destroyed.
Blue tarpaulins on the roofs show where repairs have begun.
Temporary shelters were set up on the sports field next to the hospital.
The reservoir has lost much of its water since the drought began.
The shoreline retreated by more than thirty metres within ten years.
The glacier has become shorter and thinner, leaving bare rock behind.
A new dam holds back the river and has formed a large lake.
The wetland was drained and turned into cropland.
Circular fields are watered by rotating sprinklers in the desert.
Rice paddies, orchards and vineyards each have a pattern of their own.
The harvest has been brought in and the soil lies open.
Greenhouses with plastic covers glitter between the fields.
The quarry has expanded towards the south and its pit is deeper than before.
An open-pit mine with terraces and heavy trucks dominates the scene.
Solar panels were installed on the flat roof of the supermarket.
A solar farm with long parallel rows occupies the former pasture.
Wind turbines stand along the ridge, and their shadows point to the north.
The airport has two runways, a terminal and a large apron with aircraft.
Three planes are parked in front of the hangar.
The second runway was extended and a new taxiway added.
Ships lie at the quay, and containers are stacked in coloured rows.
A ferry crosses the bay while small boats are moored in the marina.
The railway line runs straight through the industrial district.
A freight train waits at the station next to the storage tanks.
The motorway interchange was completed between the first and the second date.
A roundabout has taken the place of the crossing.
The narrow bridge over the canal was replaced by a wider one.
The dirt track has been paved and now has two lanes.
Cars are parked along both sides of the street in front of the school.
The parking lot of the shopping mall is almost full.
Moving vehicles are not counted as change.
The stadium, the tennis courts and the playground form a sports complex.
A baseball field can be recognised by its diamond of bare soil.
The golf course has bunkers of sand, small ponds and short green grass.
The cemetery lies beside the chapel behind a row of tall trees.
The university campus has grown by a library and two student halls.
The hospital has a helipad on its roof.
The prison is surrounded by a wall with towers at its corners.
The storage tanks of the refinery are round, white and of different sizes.
Cooling towers and a chimney mark the power station.
The sewage plant consists of circular basins near the river.
A landfill was opened to the west of the town and later covered with soil.
Illegal construction was found inside the protected area.
The slum has become denser, and hardly any open ground remains.
Urban sprawl has consumed the green belt around the capital.
High-rise towers cast long shadows over the neighbouring blocks.
The city council plans a park between the river and the old town.
Vacant lots are slowly filled with new homes, garages and gardens.
The construction site shows cranes, piles of sand and an unfinished foundation.
The frame of the building is complete, but the roof is still missing.
Concrete has been poured for the floor of a new sports hall.
The scaffolding has been removed and the house looks finished.
An extension was added to the rear of the school.
The two semi-detached houses share a driveway.
A hedge separates the garden from the road.
Individual trees along the avenue were cut down to widen the street.
Young trees have been planted in regular rows on the former meadow.
Deforestation proceeds from the road into the forest in a pattern like fish bones.
Logging has left stumps and narrow tracks for machines.
The forest has recovered ten years after the fire.
Mangroves protect the coast from storms and erosion.
The beach became narrower after the winter storms.
Sand dunes move slowly with the prevailing wind.
Snow covers the mountains, while the valley floor is free of it.
Ice floats on the lake in March and is gone in May.
Turbid water flows into the sea and forms a brown plume.
Algae have turned the pond green.
The oil spill appears as a dark smooth patch on the water.
The island is small, flat and without any trees.
The peninsula reaches far into the sea and ends in a lighthouse.
The canal joins the two lakes and passes under four bridges.
The creek meanders through the meadow and meets the river at the mill.
Shallow water looks lighter than deep water.
The swimming pool behind the hotel was empty in the earlier image.
The first image was acquired by one sensor and the second by another.
Differences in brightness do not mean that anything on the ground has changed.
The images are slightly shifted against each other by one or two pixels.
The viewing angle differs, so tall buildings lean in different directions.
Haze reduces the contrast of distant objects.
Sensor noise and compression leave small traces in smooth areas.
The red, green and blue bands were combined into a natural colour picture.
The near-infrared band makes healthy vegetation appear bright.
A change map marks each changed pixel in white and all others in black.
The mask covers three large regions and a few isolated spots.
The model compares features of both dates and describes the difference in words.
A vision tower turns the image into tokens, and a language model writes the answer.
The change encoder gives more weight to places where the two dates disagree.
Ground truth was drawn by hand by two independent annotators.
The caption should be short, correct and easy to understand.
Describe the scene in one sentence.
Give a detailed description of the image.
How many aircraft can be counted on the apron?
Which of the following best describes the change: construction, demolition, flood or fire?
Is the water level higher or lower than before?
Where is the largest building located?
When was the bridge destroyed?
Between which two dates did the forest disappear?
Did the number of houses increase, decrease or stay the same?
What happens in the second half of the video?
In the first half of the clip nothing happens at all.
The video shows a crossing seen from a drone.
A truck stops, turns left and leaves the road.
People walk across the square towards the market.
A crowd has gathered in front of the stadium after the concert.
Two vehicles collided, and traffic has come to a halt.
Smoke rises from a burning house, and fire engines arrive.
A boat leaves the harbour and sails towards the open sea.
Cyclists ride along the path beside the river.
Workers repair the road surface with hot asphalt.
The series covers five dates between spring and winter.
At the third date the excavation begins, and at the fifth the hall is finished.
The event took place between the second and the fourth date.
The earliest image shows only grass and a few scattered bushes.
The latest image shows a finished residential quarter with roads and lamps.
Both images show the same place, seen from directly above.
There is hardly any difference apart from the colour of the grass.
The two pictures look alike, although the light is different.
I can see a small pond near the upper left corner.
The large grey building in the center has a flat roof with several machines on it.
The road enters at the bottom, bends to the right and leaves at the top.
To the left of the road there are six houses, and to the right there are none.
Above the river lies a forest, and below it there are open fields.
Behind the warehouse a new car park with white lines was laid out.
Most of the area is covered by bare soil.
Less than a tenth of the scene is built up.
Roughly half of the forest was cleared within a single year.
Twelve of the twenty buildings were destroyed, three were damaged and five are intact.
The number of houses rose from seven to fifteen.
One hundred hectares of farmland were lost to housing.
The distance between the two bridges is about eight hundred metres.
The scale of the map is one to ten thousand.
North is at the top of the image.
The coordinates are given in degrees of latitude and longitude.
The scene was cut into tiles of equal size before the analysis.
Every tile receives an answer, and the answers are merged into a report.
The report lists the type, the number and the location of all changes.
I am not certain, because the trees hide a part of the roof.
It is likely that the house was rebuilt after the storm.
The picture is too blurred to decide whether the road is paved.
I see no evidence of flooding in this area.
The change is small, but it is clearly visible.
It seems that the old barn has been replaced by a modern one.
The garden has been turned into a place for cars.
As before, the playground lies between the two schools.
Compared with the previous year, the lake is smaller and its banks are wider.
In addition, a fence was erected around the site.
However, the eastern part of the village did not change.
Therefore the answer is no.
For example, the house next to the church has a new roof.
First the trees were removed, then the ground was levelled, and finally the road was built.
During the summer the ponds dry out, and in winter they fill again.
Since the first date two more streets have been added.
Until last year this was pasture.
Although the season differs, the buildings are unchanged.
Because of the shadow it is hard to see the smaller vehicles.
Whether the hall is finished cannot be seen from above.
If the ground is wet, it looks darker.
The terrain is hilly in the west and flat in the east.
The settlement consists of scattered farms that are linked by narrow lanes.
The historic centre with its dense blocks and inner courtyards has not changed.
The commercial zone has large stores, wide roads and few trees.
The industrial estate was extended by four halls and a storage yard.
Military vehicles stand in rows behind the barracks.
Tents of a refugee camp have been put up in straight lines.
The monastery stands alone on the hill above the village.
The castle is surrounded by a moat and an old garden.
The theatre and the museum face each other across the plaza.
Market stalls with coloured roofs fill the square on Saturday.
The fountain in the middle of the park is dry.
The greenhouse was demolished, and the concrete floor remains.
Rubble lies where the tower stood.
The crater in the runway has been repaired.
The pipeline crosses the desert in a straight line.
Power lines run above a strip where all trees have been removed.
The transmission tower casts a thin shadow.
A substation was added next to the railway.
Sheep graze on the dike, and cows stand near the barn.
Hay bales are spread over the mown meadow.
The tractor has left regular tracks in the wheat.
Fields of maize, sunflower and potato lie side by side.
The orchard was cleared, and vegetables are grown in its place.
Terraces follow the contours of the hill.
Irrigation channels divide the plain into long strips.
Salt pans along the coast shine white and pink.
Fish farms float in the sheltered bay.
The coral reef is visible beneath the clear water.
Waves break along the sandbar at the mouth of the river.
The delta spreads into many branches.
A waterfall can be guessed from the white foam at the cliff.
The canyon is deep, and its floor lies in shadow.
Rocks and sparse shrubs cover the arid plateau.
The steppe is yellow, dry and almost empty.
Moss and lichen cover the tundra, and there are thousands of small lakes.
The rainforest forms a closed canopy with few gaps.
A plantation of oil palms shows a regular grid of crowns.
Bamboo grows along the edge of the terrace.
Invasive plants have spread over the surface of the reservoir.
Bark beetles killed the spruces, and the grey trunks are still standing.
The clearing was burnt and sown with grass for cattle.
Reforestation began on the northern slope.
The nature reserve protects moor, heath and old oaks.
The path through the park has been widened and now has benches.
Street lamps and young trees line the new boulevard.
The tram tracks were laid in the middle of the avenue.
The bus station has moved to the other side of the railway.
A tunnel entrance has appeared at the foot of the hill.
The viaduct spans the valley on tall slender piers.
The toll gate and the service area lie beside the motorway.
Barriers close the road to the damaged bridge.
The cruise ship was docked in the first image and is gone in the second.
Cranes unload a cargo vessel at the northern terminal.
A breakwater shelters the fishing port from the waves.
The shipyard has a dry dock and two long slipways.
Helicopters stand on the grass beside the runway.
The control tower is the tallest building of the airfield.
The rocket launch site lies on the coast, far from any town.
A radio telescope with a white dish stands in the forest.
Blue, white and red roofs alternate along the street.
The house has a gable roof, a chimney and a small porch.
The shed behind the barn is new.
The courtyard has been covered with a glass roof.
Balconies and terraces can be seen on the southern side of the tower.
The garage was converted, and the driveway was paved.
Only the foundation walls of the cottage remain.
The fence was moved by a few metres.
The plot has been divided, and two bungalows stand on it.
The neighbourhood is quiet, green and well planned.
Population growth drives the expansion of the city.
Land use and land cover are related but not the same.
Monitoring change helps planners, insurers and relief organisations.
High resolution images show details that were invisible before.
The quality of the answer depends on the quality of the images.
The tool runs on an ordinary laptop without a graphics card.
The question was not clear; please ask again.
Thank you, that is exactly what I wanted to know.
Hello, how can I help you with your images today?
Sure, here is a short summary of the changes.
Of course; the two dates differ in three places.
Sorry, the image cannot be read.
The file is damaged or is not an image at all.
Please provide two images: one taken before and one taken after the event.
The correct order is before, then after.
If the dates are exchanged, what was built appears to be removed.
A careful analyst checks each corner of the scene.
Nothing was built and nothing was removed.
Everything else has stayed as it was.
The same object may look different under another sun.
A change of use is not always visible from above.
Small objects, such as benches or bicycles, cannot be seen at this resolution.
The texture of the roof suggests tiles rather than metal.
The triangle of grass between the three roads is still there.
An oval track surrounds the football pitch.
The square block in the west has an inner yard with trees.
A long curved building follows the bend of the river.
The L-shaped school stands beside a rectangular field.
The hexagonal hall is probably a market.
Parallel lines in the sand are the traces of vehicles.
A circular scar remains where the tank stood.
The diagonal path cuts across the empty lot.
The outline of the old racecourse can still be recognised.
Its width is twice its length.
The new quarter is larger than the old one, but its houses are smaller.
The nearest road is to the south-west of the lake.
The farthest point of the pier lies outside the image.
Several of the tall poplars at the edge of the field have fallen.
Neither the bridge nor the dam was affected.
Either the barn was moved or it was rebuilt nearby.
All the houses in the top row have been completed.
None of the buildings on the island survived the storm.
Some of the ponds were joined into a larger lake.
Many roofs have been repaired since the last observation.
Few trees are left in the inner city.
A little snow remains in the shade of the walls.
The first, second, third, fourth and fifth frames are nearly the same.
The sixth, seventh and eighth frames show the finished road.
Counting from left to right, the ninth and tenth houses are new.
Eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen, eighteen, nineteen, twenty.
Thirty, forty, fifty, sixty, seventy, eighty, ninety, one hundred, one thousand, one million.
January, February, March, April, May, June, July, August, September, October, November, December.
Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
In 2014 the area was empty; by 2019 it held 35 homes, and in 2023 there were 78.
The image of 2020-06-15 has 1024 x 1024 pixels at 0.5 m.
Red, orange, yellow, green, blue, purple, brown, black, white, grey and pink.
North, south, east, west, north-east, north-west, south-east and south-west.
Upper, lower, left, right, top, bottom, middle, center, corner, edge, side and part.
""".splitlines()

"""The words that factuality.py reads in change captions: regular expressions of whole words, in lower case.

Of the 4,820 test references of LEVIR-CC that mention a change, a direction is found in all but 120.
"""

OBJECTS = {
    "parking lot": r"parking(?: (?:lot|area|space|place)s?)?|car parks?",
    "building": r"(?:residential|living) (?:area|block|district|quarter)s?|(?:store|ware)?houses?|buildings?|villas?|"
    r"homes?|bungalows?|mansions?|residences?|dwellings?|apartments?|factor(?:y|ies)|malls?|sheds?|roofs?|constructions?|"
    r"structures?|architectures?|facilit(?:y|ies)",
    "road": r"(?:cross)?roads?|streets?|paths?|lanes?|highways?|avenues?|roundabouts?|bypass(?:es)?|trails?|"
    r"crossings?|intersections?|junctions?",
    "trees": r"trees?|woods?|woodlands?|forests?|jungles?|vegetation|plants?|bush(?:es)?|shrubs?|brushwoods?|greenery",
    "grass": r"grass(?:land)?s?|meadows?|lawns?",
    "bare land": r"barelands?|(?:bare|open|vacant|empty|exposed) (?:land|ground|space|area|soil|field)s?|wastelands?|"
    r"deserts?|clearings?|(?<!play)ground|soil|dirt",
    "pool": r"(?:swimming )?pools?",
    "water": r"lakes?|ponds?|rivers?|water|puddles?|cisterns?",
    "sports field": r"playgrounds?|(?:(?:basketball|tennis|baseball|football|sports?) )?(?:courts?|pitch(?:es)?)|"
    r"(?:baseball|football|sports?) fields?",
    "farmland": r"farmlands?|fields?|crops?",
    "square": r"squares?|plazas?",
    "vehicle": r"cars?|vehicles?|trucks?|buses",
    "bridge": r"bridges?",
    "tank": r"tanks?",
}
APPEARS, DISAPPEARS = "appears", "disappears"
VERBS = {  # the first that matches at a place
    "into": r"replaced (?:by|with)|(?:turn|change|transform|convert|develop)(?:s|ed)? (?:in)?to|built into|"
    r"becom(?:e|es|ing)|became|makes? (?:way|room) for|gives? way to|covered (?:by|with)",
    "disappears": r"disappear\w*|vanish\w*|remov\w+|demolish\w*|destroy\w*|cleared|cut(?: down| back)?|torn down|"
    r"pulled down|razed|gone|missing|no longer|decreas\w+|wither\w*|dried|felled|filled in|reduced|taken away|"
    r"(?:is|are|was|were|been|being) replaced(?! by| with)",
    "replaces": r"replac(?:e|es|ed|ing)|takes? (?:the )?place of|instead of|in place of",
    "appears": r"appear\w*|(?:re)?build|(?:re)?built|(?:re)?construct(?:ed|s)?|erected|added|planted|developed|"
    r"(?:is|are|was|were|been) completed|emerg(?:e|es|ed)|grow(?:s|n)?|grew|established|installed|paved|dug|laid|"
    r"put up|shows?(?: up)?|comes? up|created|formed|scattered|located|situated|arranged|extend(?:s|ed)?|expanded|"
    r"increas\w+|widened|enlarged",
}
PLACED = (
    r"on|in|at|along(?:side)?|beside|near|next to|around|across|through|among|between|by|from|surround(?:ing|ed)|"
    r"behind|above|below|opposite|inside|outside|within|over|under|parallel to|to|connect\w*|join\w*"
)
NUMBERS = {
    word: number
    for number, words in {
        "1": "a an one single", "2": "two both", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven",
        "8": "eight", "9": "nine", "10": "ten", "some": "some several few",
        "many": "many massive numerous lots plenty dense row rows line lines group number",
    }.items()
    for word in words.split()
}  # fmt: skip
PLACES = {
    "top": r"top|upper", "bottom": r"bottom|lower", "left": "left", "right": "right", "center": r"cent(?:er|re)|middle",
    "corner": r"corners?", "edge": r"edges?", "both sides": r"(?:both|two) sides",
    "by the road": r"roadsides?|(?:along(?:side)?|beside|near|next to|by) (?:\w+ ){0,3}(?:roads?|streets?|paths?)",
}  # fmt: skip

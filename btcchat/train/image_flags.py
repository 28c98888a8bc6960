"""The flags that say how images are read."""

from dataclasses import dataclass, field

from btcchat.media.reading import Reading


@dataclass(kw_only=True)
class ImageArguments:
    """As in the other commands; see docs/inputs.md."""

    bands: str | None = field(
        default=None,
        metadata={
            "help": "Bands of a raster that are red, green, blue, e.g. 4,3,2. Default: the marked or first ones."
        },
    )
    stretch: str = field(
        default="shared",
        metadata={"help": "More than 8 bits to grey levels: shared by all dates, per-date, none or LOW,HIGH."},
    )
    nodata: str | None = field(
        default=None, metadata={"help": "The value that is no data, or none. Default: taken from the file."}
    )

    @property
    def reading(self) -> Reading:
        """How images are read. Raises BTCChatError for an invalid value."""
        return Reading.parse(self.bands, self.stretch, self.nodata)

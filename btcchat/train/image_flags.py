"""The flags that say how images are read."""

from dataclasses import dataclass, field

from btcchat.media.reading import Reading


@dataclass(kw_only=True)
class ImageArguments:
    """As in the other commands; see docs/inputs.md."""

    bands: str | None = field(
        default=None,
        metadata={"help": "Red, green, blue bands, e.g. 4,3,2. Default: those marked as such, else the first three."},
    )
    stretch: str = field(
        default="shared",
        metadata={"help": "Black and white points beyond 8 bits: shared (by all dates), per-date, none or LOW,HIGH."},
    )
    nodata: str | None = field(
        default=None, metadata={"help": "The value that is no data, or none. Default: taken from the file."}
    )

    @property
    def reading(self) -> Reading:
        """How images are read. Raises BTCChatError for an invalid value."""
        return Reading.parse(self.bands, self.stretch, self.nodata)

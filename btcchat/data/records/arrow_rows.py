"""Rows read by the package ``datasets``: Parquet, saved data sets, data sets of the hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcchat.errors import BTCChatError
from btcchat.limits.regular import check_utf8

if TYPE_CHECKING:
    import datasets
    import pyarrow

MEDIA_KEYS = ("image", "images", "video")


class ArrowRows:
    """A ``datasets.Dataset``: memory-mapped, so rows do not stay in memory. Its images are not decoded."""

    def __init__(self, dataset: "datasets.Dataset", name: str):
        self.dataset, self.name = encoded(dataset), name

    @property
    def fingerprint(self) -> str:
        """The hash by which ``datasets`` identifies this data set."""
        return str(self.dataset._fingerprint)

    def scan(self) -> Iterator[dict[str, Any]]:
        """Every row without the bytes of its images; each image is replaced by a single byte."""
        for batch in self.dataset.with_format("arrow").iter(1000):
            media = {key: batch[key] for key in MEDIA_KEYS if key in batch.column_names}
            light = {key: column for key, column in media.items() if _holds_text(column.type)}
            rows = batch.drop_columns([key for key in media if key not in light]).to_pylist()
            for key, column in media.items():
                if key not in light:
                    for row, filled in zip(rows, _fillings(column), strict=True):
                        row[key] = filled
            yield from rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.dataset[index]
        return row


def library() -> Any:
    """The package ``datasets``."""
    try:
        import datasets
    except ImportError as error:
        raise BTCChatError("Parquet and hub data need the package datasets: pip install 'btcchat[train]'") from error
    datasets.disable_progress_bars()
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # its faults are raised too
    return datasets


def load(
    path: str,
    *,
    split: str,
    subset: str | None = None,
    files: str | list[str] | None = None,
    streaming: bool = False,
) -> Any:
    """The ``datasets.Dataset``, or IterableDataset if ``streaming``, from ``datasets.load_dataset``.

    files: files of the format ``path``. Raises BTCChatError with the library's error in one line.
    """
    with _one_line(files or path):
        return library().load_dataset(path, name=subset, data_files=files, split=split, streaming=streaming)


def load_saved(folder: str) -> Any:
    """The ``datasets.Dataset`` that ``save_to_disk`` wrote. Raises BTCChatError as `load` does."""
    with _one_line(folder):
        check_utf8(Path(folder).absolute(), f"data set {folder}")
        return library().load_from_disk(folder)


@contextmanager
def _one_line(name: str | list[str]) -> Iterator[None]:
    datasets = library()
    try:
        yield
    except BTCChatError:
        raise
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:  # ValueError: Arrow's too
        raise BTCChatError(f"data set {name} cannot be read: {' '.join(str(error).split())}") from error


def encoded(dataset: Any) -> Any:
    """The same data set (see `load`) with images as ``{"bytes", "path"}`` instead of PIL images."""
    datasets = library()
    features: dict[str, Any] = dataset.features or {}
    raw = datasets.Image(decode=False)
    for key in [key for key in MEDIA_KEYS if key in features]:
        kind = features[key]
        if isinstance(kind, datasets.Image):
            dataset = dataset.cast_column(key, raw)
        elif isinstance(getattr(kind, "feature", None), datasets.Image):  # a list of images
            dataset = dataset.cast_column(key, type(kind)(raw))
    return dataset


def _holds_text(kind: "pyarrow.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if hasattr(kind, "value_type") else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _fillings(column: "pyarrow.Array") -> Iterator[list[bytes] | bytes | None]:
    """A filling for each row: None, a value, or a list as long as that of the row."""
    import pyarrow.compute as pc

    something = b"?"
    if hasattr(column.type, "value_type"):
        return ([something] * n if n is not None else None for n in pc.list_value_length(column).to_pylist())
    return (something if valid else None for valid in pc.is_valid(column).to_pylist())

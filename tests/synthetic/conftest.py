"""Fixtures of the tests of drawn scenes."""

import numpy as np
import pytest

from btcchat.synthetic import samples


@pytest.fixture
def undrawn(monkeypatch):
    """Layouts, truth and words without the drawing, so that hundreds of seeds take only seconds."""

    class Blank:
        def __init__(self, site, style):
            pass

        def render(self, date, conditions):
            return np.zeros((256, 256, 3), np.uint8)

    monkeypatch.setattr(samples, "Renderer", Blank)

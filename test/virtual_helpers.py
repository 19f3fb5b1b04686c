"""Helpers of the tests of virtual slides."""

from functools import cache

import numpy as np
from scipy import ndimage

from uga.geometry import Level0Region
from uga.virtual.render import Renderer, reference
from uga.virtual.spec import LesionClass, SlideSpec

SMALL = SlideSpec(seed=5, lesion=LesionClass.MICRO, width_um=1100, height_um=1000, node_um=800, dust=0)


@cache
def whole_slide(spec):
    """The pixels of a slide, drawn as a whole."""
    return Renderer(spec).region(Level0Region(0, 0, spec.width_px, spec.height_px))


@cache
def whole_reference(spec):
    """The reference of a slide."""
    return reference(spec, spec.reference_grid.region)


def diameters_um(labels):
    """Largest side of each tumour deposit's bounding box."""
    found, _ = ndimage.label(labels == 2, structure=np.ones((3, 3)))
    return [max(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(found)]


def density(rgb, white):
    """Optical density of each channel."""
    return -np.log10(np.clip(rgb.astype(float), 1, None) / np.asarray(white))

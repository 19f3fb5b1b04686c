"""Files of annotation tools, as these write them."""

import json

SQUARE = ((0, 0), (40, 0), (40, 40), (0, 40))


def asap_annotation(points=SQUARE, *, group="Tumor", kind="Polygon", orders=None):
    coordinates = "".join(
        f'<Coordinate Order="{order}" X="{x}" Y="{y}" />'
        for order, (x, y) in zip(orders or range(len(points)), points, strict=True)
    )
    return (
        f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def asap_xml(*annotations, head='<?xml version="1.0"?>\n'):
    groups = '<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00ff00"><Attributes /></Group>'
    inner = "".join(annotations)
    return f"{head}<ASAP_Annotations><Annotations>{inner}</Annotations>{groups}</AnnotationGroups></ASAP_Annotations>"


def feature(*rings, name="Tumor", **properties):
    """A GeoJSON feature as QuPath writes it; rings are closed."""
    closed = [[*map(list, ring), list(ring[0])] for ring in rings or (SQUARE,)]
    return {
        "type": "Feature",
        "id": "1dd4ae4c-9ddd-4b20-a171-b6ae1b59a2fe",
        "geometry": {"type": "Polygon", "coordinates": closed},
        "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}} | properties,
    }


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def polygon_item(points_mm, *groups, name="Area 1"):
    return {
        "name": name,
        "type": "Polygon",
        "seed_point": [*points_mm[0], 0.5],
        "path_points": [[x, y, 0.5] for x, y in points_mm],
        "sub_type": "brush",
        "groups": list(groups),
        "probability": 0.5,
    }


def polygons_json(*items, name="Areas"):
    """A grand-challenge 'Multiple polygons' file."""
    version = {"major": 1, "minor": 0}
    return json.dumps({"name": name, "type": "Multiple polygons", "polygons": list(items), "version": version})

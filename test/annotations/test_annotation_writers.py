import json

import numpy as np
import pytest
from defusedxml import ElementTree

from uga.annotations.shapes import Polygon, Shape
from uga.annotations.writers import write_asap_xml, write_geojson, write_polygons
from uga.geometry import SpacingUm

COLOURS = {"tumour": (0, 158, 115)}
SQUARE = np.array([(10, 20), (410, 20), (410, 420), (10, 420)], np.float64)
RING = Shape((Polygon(SQUARE, (SQUARE / 2 + 100,)),), "tumour")
TWO = Shape((Polygon(SQUARE / 3), Polygon(SQUARE + 1000)), "stroma")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "areas"


def test_geojson_as_qupath_reads_it(path):
    write_geojson(path, [RING, TWO, Shape(TWO.polygons[:1], "")], COLOURS)
    content = json.loads(path.read_bytes())
    first, second, third = content["features"]
    assert content["type"] == "FeatureCollection"
    assert {feature["type"] for feature in content["features"]} == {"Feature"}
    assert first["properties"] == {
        "objectType": "annotation",
        "classification": {"name": "tumour", "color": [0, 158, 115]},
    }
    assert second["properties"]["classification"] == {"name": "stroma"}
    assert third["properties"] == {"objectType": "annotation"}
    assert [feature["geometry"]["type"] for feature in content["features"]] == ["Polygon", "MultiPolygon", "Polygon"]
    exterior, hole = first["geometry"]["coordinates"]
    assert exterior == [[10, 20], [410, 20], [410, 420], [10, 420], [10, 20]]
    assert hole == [[105, 110], [305, 110], [305, 310], [105, 310], [105, 110]]
    assert second["geometry"]["coordinates"][0][0][0] == [3.3333, 6.6667]


def test_frames_are_locked(path):
    write_geojson(path, [Shape(RING.polygons, "Region*"), RING], COLOURS)
    frame, area = json.loads(path.read_bytes())["features"]
    assert frame["properties"]["isLocked"] is True
    assert "isLocked" not in area["properties"]


def test_asap_xml_as_asap_reads_it(path):
    write_asap_xml(path, [TWO, RING], COLOURS)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ASAP_Annotations"
    written = [(a.get("Name"), a.get("Type"), a.get("PartOfGroup")) for a in root.find("Annotations")]
    assert written == [
        ("Annotation 0", "Polygon", "stroma"),
        ("Annotation 1", "Polygon", "tumour"),
        ("Annotation 2", "Polygon", "background"),
        ("Annotation 3", "Polygon", "stroma"),
    ], "larger before smaller, a hole right after its polygon"
    groups = {group.get("Name"): group.attrib for group in root.find("AnnotationGroups")}
    assert groups.keys() == {"stroma", "tumour", "background"}, "ASAP refuses a file with a group that is not listed"
    assert groups["tumour"]["Color"] == "#009e73"
    assert {group["PartOfGroup"] for group in groups.values()} == {"None"}
    points = root.find("Annotations")[1].iter("Coordinate")
    assert [(p.get("Order"), float(p.get("X")), float(p.get("Y"))) for p in points] == [
        (str(order), x, y) for order, (x, y) in enumerate(SQUARE.tolist())
    ]


def test_polygons_as_grand_challenge_demands_them(path):
    write_polygons(path, [RING], SpacingUm(0.25, 0.5), "Areas of a slide")
    content = json.loads(path.read_bytes())
    polygons = content.pop("polygons")
    assert content == {"name": "Areas of a slide", "type": "Multiple polygons", "version": {"major": 1, "minor": 0}}
    assert [polygon["groups"] for polygon in polygons] == [["tumour"], ["background"]]
    for polygon in polygons:
        assert polygon.keys() == {"name", "type", "seed_point", "path_points", "sub_type", "groups"}
        assert polygon["type"] == "Polygon"
        assert polygon["seed_point"] in polygon["path_points"]
    assert polygons[0]["path_points"] == [
        [0.0025, 0.01, 0.5],
        [0.1025, 0.01, 0.5],
        [0.1025, 0.21, 0.5],
        [0.0025, 0.21, 0.5],
    ]


def test_polygons_keep_a_thousandth_of_a_pixel(path):
    mpp = SpacingUm(0.2431, 0.2519)
    far = SQUARE + np.array([123_456.789, 98_765.4321])
    write_polygons(path, [Shape((Polygon(far),), "tumour")], mpp, "Areas")
    (polygon,) = json.loads(path.read_bytes())["polygons"]
    points_mm = np.array(polygon["path_points"])[:, :2]
    np.testing.assert_allclose(points_mm * 1000 / (mpp.x, mpp.y), far, rtol=0, atol=1e-3)

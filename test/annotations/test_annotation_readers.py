import contextlib
import json
import logging

import numpy as np
import pytest
from annotation_helpers import (
    SQUARE,
    asap_annotation,
    asap_xml,
    collection,
    feature,
    polygon_item,
    polygons_json,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uga.annotations import asap, jsonstream
from uga.annotations.readers import detect_format, read_annotation, read_shapes
from uga.annotations.shapes import split_regions
from uga.errors import UserError
from uga.geometry import SpacingUm

MPP = SpacingUm(0.25, 0.5)
NAN_SQUARE = (("NaN", 0), (40, 0), (40, 40), (0, 40))


@pytest.fixture
def file(tmp_path):
    """Write a text and get its path; the name tells nothing."""

    def write(text):
        path = tmp_path / "annotation"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def rings(shapes):
    return [[polygon.exterior.tolist() for polygon in shape.polygons] for shape in shapes]


def classes(shapes):
    return [shape.class_name for shape in shapes]


# --- ASAP


def test_camelyon16(file):
    shapes = read_annotation(file(asap_xml(asap_annotation(group="_0"), asap_annotation(group="_1"))))
    assert classes(shapes) == ["_0", "_1"]
    assert [shape.number for shape in shapes] == [1, 2]
    np.testing.assert_array_equal(shapes[0].polygons[0].exterior, np.array(SQUARE, np.float64))


def test_points_follow_their_order_numbers(file):
    shuffled = [SQUARE[i] for i in (2, 0, 3, 1)]
    (shape,) = read_annotation(file(asap_xml(asap_annotation(shuffled, orders=(2, 0, 3, 1)))))
    assert rings([shape]) == [[[list(map(float, point)) for point in SQUARE]]]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["_2", "_0", "_1"], ["_0", "_1", "_2"]),
        (["Exclusion", "Tumor"], ["Tumor", "Exclusion"]),
        (["normal", "metastases"], ["metastases", "normal"]),
        (["normal", "tumor"], ["normal", "tumor"]),
        (["exclusion", "background", "tumor"], ["exclusion", "background", "tumor"]),
        (["_2", "tumor", "_2", "stroma"], ["tumor", "stroma", "_2", "_2"]),
    ],
)
def test_groups_for_holes_come_last(file, groups, expected):
    assert classes(read_annotation(file(asap_xml(*(asap_annotation(group=group) for group in groups))))) == expected


@pytest.mark.parametrize("kind", ["Polygon", "Spline", "Rectangle", ""])
def test_areas_of_asap(file, kind):
    assert len(read_annotation(file(asap_xml(asap_annotation(kind=kind))))) == 1


def test_no_areas_of_asap_are_left_out_and_told(file, caplog):
    none = [
        asap_annotation([(5, 5)], kind="Dot"),
        asap_annotation(kind="PointSet"),
        asap_annotation([(1, 1), (9, 9)], kind="Measurement"),
        asap_annotation([(1, 1), (9, 9)]),
        asap_annotation([]),
        asap_annotation([(1, 1), (9, 9), (1, 1)]),
    ]
    with caplog.at_level(logging.WARNING):
        (shape,) = read_annotation(file(asap_xml(*none, asap_annotation())))
    assert shape.number == 7
    assert "6 of its objects are no area and left out (number 1, 2, 3, 4, 5, ...)" in caplog.text


def test_asap_in_other_encodings(file):
    text = asap_xml(asap_annotation(group="Tumör"), head='<?xml version="1.0" encoding="{}"?>')
    for encoding in ("utf-8", "latin-1", "utf-16"):
        assert classes(read_annotation(file(text.format(encoding).encode(encoding)))) == ["Tumör"]
    assert classes(read_annotation(file(b"\xef\xbb\xbf" + text.format("utf-8").encode()))) == ["Tumör"]


# --- GeoJSON


@pytest.mark.parametrize(
    "text",
    [
        collection(feature()),
        json.dumps([feature()]),
        json.dumps(feature()),
        "\ufeff  \n" + collection(feature()),
        json.dumps({"features": [feature()], "type": "FeatureCollection", "extra": {"a": [1, {"b": 2}]}}),
        json.dumps(dict(reversed(feature().items()))),
    ],
    ids=["collection", "list", "feature", "byte order mark", "features first", "properties first"],
)
def test_forms_of_geojson(file, text):
    (shape,) = read_annotation(file(text))
    assert (shape.class_name, shape.number) == ("Tumor", 1)
    assert rings([shape]) == [[[list(map(float, point)) for point in SQUARE]]]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"classification": {"name": "Tumor", "colorRGB": -3670016}}, "Tumor"),
        ({"classification": {"names": ["Tumor"], "color": [1, 2, 3]}}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
        ({"classification": " Tumor "}, "Tumor"),
        ({"classification": {"name": 3}}, "3"),
        ({"classification": None}, ""),
        ({"classification": {}}, ""),
        ({"classification": {"name": None, "names": None}}, ""),
        ({"classification": ["Tumor"]}, ""),
        ({"object_type": "annotation", "classification": {"name": "Tumor"}, "measurements": {"Area": 3}}, "Tumor"),
        ({}, ""),
        (None, ""),
    ],
)
def test_spellings_of_the_class(file, properties, expected):
    (shape,) = read_annotation(file(collection(feature() | {"properties": properties})))
    assert shape.class_name == expected


def test_multipolygon_with_holes(file):
    inner = ((10, 10), (10, 20), (20, 20), (20, 10))
    geometry = {"type": "MultiPolygon", "coordinates": [[SQUARE, inner], [[(90, 0), (95, 0, 7), (95, 9), (90, 0)]]]}
    (shape,) = read_annotation(file(collection(feature() | {"geometry": geometry})))
    first, second = shape.polygons
    np.testing.assert_array_equal(first.holes[0], np.array(inner, np.float64))
    np.testing.assert_array_equal(second.exterior, [(90, 0), (95, 0), (95, 9)])
    assert second.holes == ()


def test_frames_are_told_apart(file):
    path = file(collection(feature(name="Region*", isLocked=True), feature(name="Stroma")))
    areas, frames = split_regions(read_shapes(path))
    assert (classes(areas), classes(frames)) == (["Stroma"], ["Region*"])
    assert [shape.number for shape in read_annotation(path)] == [2]


def test_no_areas_of_geojson_are_left_out_and_told(file, caplog):
    geometries = [
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
        {"type": "LineString", "coordinates": [[1, 2], [3, 4]]},
        {"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [1, 2]]]},
        {"type": "Polygon", "coordinates": []},
        None,
    ]
    features = [feature() | {"geometry": geometry} for geometry in geometries]
    detections = [feature(objectType=kind) for kind in ("detection", "cell", "tile", "tmaCore")]
    with caplog.at_level(logging.WARNING):
        (shape,) = read_annotation(file(collection(*features, *detections, feature())))
    assert shape.number == 12
    assert "11 of its objects are no area" in caplog.text


def test_objects_within_objects(file):
    child = feature(name="child", childObjects=[feature(name="grandchild")])
    path = file(collection(feature(name="parent", childObjects=[child]), feature(name="last")))
    shapes = read_annotation(path)
    assert classes(shapes) == ["parent", "child", "grandchild", "last"]
    assert [shape.number for shape in shapes] == [1, 2, 3, 4]


@pytest.mark.parametrize("chunk", [*range(64, 100), 1 << 20])
def test_measurements_that_are_no_numbers(file, monkeypatch, chunk):
    """QuPath before 0.5 writes them like this."""
    measurements = {"Circularity": float("nan"), "a": [float("-inf"), float("inf"), 1, float("nan")], "b, NaN": "NaN"}
    path = file(collection(feature(measurements=measurements), feature(name="NaN")))
    monkeypatch.setattr(jsonstream, "_CHUNK_BYTES", chunk)
    assert classes(read_annotation(path)) == ["Tumor", "NaN"]


# --- grand-challenge


def test_polygons_are_in_mm(file):
    path = file(polygons_json(polygon_item([(0, 0), (0.25, 0), (0.25, 0.5)], "tumour")))
    (shape,) = read_annotation(path, MPP)
    np.testing.assert_allclose(shape.polygons[0].exterior, [(0, 0), (1000, 0), (1000, 1000)], rtol=1e-12)
    assert (shape.class_name, shape.number) == ("tumour", 1)
    with pytest.raises(UserError, match="in mm"):
        read_annotation(path)


def test_class_of_polygons(file):
    points = [(0, 0), (1, 0), (1, 1)]
    items = [polygon_item(points, "stroma"), polygon_item(points, name="tumour"), polygon_item(points[:2], "lost")]
    assert classes(read_annotation(file(polygons_json(*items)), MPP)) == ["stroma", "tumour"]
    single = polygon_item(points, "stroma") | {"version": {"major": 1, "minor": 0}}
    assert classes(read_annotation(file(json.dumps(single)), MPP)) == ["stroma"]
    with pytest.raises(UserError, match="polygon 1 in several groups"):
        read_annotation(file(polygons_json(polygon_item(points, "a", "b"))), MPP)


# --- What a format is


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (asap_xml(), "asap"),
        (collection(), "geojson"),
        ("[]", "geojson"),
        (json.dumps({"type": "FeatureCollection", "name": '"polygons"', "features": []}), "geojson"),
        (json.dumps({"type": "FeatureCollection", "features": [feature(name='"path_points"')]}), "geojson"),
        (polygons_json(), "grand-challenge"),
        (json.dumps({"name": "x" * 100_000, "polygons": []}), "grand-challenge"),
        ('{"type": "Feat', "geojson"),
        ('{"boxes": []}', None),
        ("slide,x,y", None),
        ("", None),
    ],
)
def test_format_is_told_by_content(file, text, expected):
    assert detect_format(file(text)) == expected


# --- Faults: a sentence each, that names the file


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><ASAP_Annotations>&c;</ASAP_Annotations>'
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ASAP_Annotations>&x;</ASAP_Annotations>'
XML = asap_xml(asap_annotation())
GEOJSON = collection(feature(), feature())
TRIANGLE = [(0, 0), (1, 0), (1, 1)]


def with_geometry(**geometry):
    return collection(feature(), feature() | {"geometry": geometry})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        (" \n", "neither ASAP XML nor GeoJSON"),
        ("\x00\x01\x02", "neither ASAP XML nor GeoJSON"),
        ('{"boxes": []}', "neither ASAP XML nor GeoJSON"),
        ("{}", "neither ASAP XML nor GeoJSON"),
        (asap_xml(), "holds no polygon"),
        (collection(), "holds no polygon"),
        ("[]", "holds no polygon"),
        ('{"features": null}', "holds no polygon"),
        (collection(feature(name="Region*")), "holds no polygon"),
        (polygons_json(), "holds no polygon"),
        (XML[:-30], "no valid XML"),
        (XML[:90], "no valid XML"),
        ("<ASAP_Annotations>", "no valid XML"),
        ('<?xml version="1.0" encoding="klingon"?><ASAP_Annotations/>', "no valid XML|no XML that can be read"),
        ("<html></html>", "no annotation of ASAP"),
        (f"<a>{XML[22:]}</a>", "no annotation of ASAP"),
        (BILLION_LAUGHS, "entities"),
        (EXTERNAL, "entities"),
        (asap_xml(asap_annotation(), asap_annotation(NAN_SQUARE)), "nan"),
        (asap_xml(asap_annotation(), asap_annotation([("1,5", 0)] * 3)), "annotation 2 without Order, X and Y"),
        (asap_xml("<Annotation><Coordinate X='1'/></Annotation>"), "annotation 1 without Order, X and Y"),
        (asap_xml(asap_annotation([("1e300", 0), (1, 1), (2, 0)])), "where no slide is"),
        (GEOJSON[:-30], "no valid JSON"),
        (GEOJSON[:120], "no valid JSON"),
        (GEOJSON + "x", "no valid JSON"),
        (GEOJSON + GEOJSON, "no valid JSON"),
        (b'[{"type": "\xff\xfe"}]', "no valid JSON"),
        (GEOJSON.replace("40", "NaN"), "no numbers"),
        (GEOJSON.replace("40", "-Infinity"), "no numbers"),
        (GEOJSON.replace("40", "NaNa"), "no valid JSON"),
        (GEOJSON.replace("40", "1e999"), "no valid JSON|where no slide is"),
        (GEOJSON.replace("40", "9" * 400), "no valid JSON|where no slide is"),
        (GEOJSON.replace("40", "1e12"), "where no slide is"),
        (GEOJSON.replace("40", '"40"'), "no numbers"),
        (GEOJSON.replace("40", "null"), "no numbers|without x and y"),
        (with_geometry(type="Polygon", coordinates=SQUARE), "feature 2 that are no Polygon"),
        (with_geometry(type="MultiPolygon", coordinates=[SQUARE]), "feature 2 that are no MultiPolygon"),
        (with_geometry(type="Polygon", coordinates=[[[1], [2], [3]]]), "without x and y"),
        (with_geometry(type="Polygon", coordinates=[[[1, 2], [[1, 2]]]]), "nested unevenly"),
        (with_geometry(type="Polygon", coordinates=[[1, [1, 2]]]), "nested unevenly"),
        (with_geometry(type="Polygon", coordinates={"x": 1}), "no numbers"),
        (with_geometry(type="Polygon", coordinates=5), "nested unevenly"),
        (with_geometry(type="GeometryCollection", geometries=[]), "type GeometryCollection, number 2"),
        ("[1, 2]", "no objects"),
        (f'{{"x": {"[" * 1_000_000}', "nested more than 100 deep"),
        ('{"x": ' * 1_000_000, "nested more than 100 deep"),
        (f'{GEOJSON[:-1]}, "x": {"[" * 100_000}', "nested more than 100 deep"),
        (f"{GEOJSON.split('[[[')[0]}{'[' * 100_000}", "nested more than 100 deep"),
        ('[{"type": "Feature", "properties": {"childObjects": ' * 5000, "more than 32 deep"),
        (polygons_json(polygon_item(TRIANGLE, "t") | {"path_points": [TRIANGLE]}), "polygon 1"),
        (polygons_json(polygon_item([(1e12, 0), (1, 1), (2, 2)])), "where no slide is"),
        (polygons_json(3), "no object"),
    ],
)
def test_faults(file, text, match):
    path = file(text)
    with pytest.raises(UserError, match=match) as caught:
        read_annotation(path, MPP)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_annotation(tmp_path / "nothing.xml")
    with pytest.raises(UserError, match="directory"):
        read_annotation(tmp_path)


@pytest.mark.parametrize("text", [GEOJSON, XML, polygons_json(polygon_item(TRIANGLE, "t"))])
def test_too_many_points(file, text, monkeypatch):
    monkeypatch.setattr(jsonstream, "MAX_POINTS", 2)
    monkeypatch.setattr(asap, "MAX_POINTS", 2)
    with pytest.raises(UserError, match=r"more than .* points; simplify"):
        read_annotation(file(text), MPP)


@pytest.mark.parametrize("text", [XML, GEOJSON, polygons_json(polygon_item(TRIANGLE, "t"))])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_told_or_harmless(file, text, data):
    damaged = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        end = min(len(damaged), start + data.draw(st.integers(0, 30)))
        damaged[start:end] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"<", b"-"])
        )
    path = file(bytes(damaged))
    with contextlib.suppress(UserError):
        for shape in read_annotation(path, MPP):
            for polygon in shape.polygons:
                for ring in polygon.rings:
                    assert ring.shape[0] >= 3
                    assert ring.shape[1:] == (2,)
                    assert np.isfinite(ring).all()

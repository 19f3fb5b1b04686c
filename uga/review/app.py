"""The web app: addresses of the page, its files and its data.

Every id in an address is looked up in a table that was made at the start; no part of an address ever becomes part of a
path.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from uga.model.card import RESEARCH_USE
from uga.output import pictures
from uga.output.colours import heat, label_colours
from uga.output.package import IMAGE_FILE, UNCERTAINTY_FILE
from uga.output.schema import NOT_JUDGED
from uga.review.archive import corrections_zip
from uga.review.command import finetune_commands
from uga.review.labelmap import decode_upload, deflate, largest_upload
from uga.review.pages import PAGE, file_response
from uga.review.refused import RefusedError, bad_request, not_found, unusable
from uga.review.requests import expect_kind, parameter, read_body, reviewer_name
from uga.review.spots import label_outlines, uncertain_spots
from uga.review.store import ConflictError, ReviewStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from uga.review.queue import Entry, Standing
    from uga.review.sheet import Sheet
    from uga.review.tiles import SlideTiles

_THUMBNAIL_PX = 320
_MAX_JSON_BYTES = 4096
_STAMP_DIGITS = 12
_UNCHANGING = {"Cache-Control": "private, max-age=86400, immutable"}
_DEFLATED = {"Content-Encoding": "deflate"}
"""HTTP's name for zlib's format."""


@dataclass(frozen=True)
class ReviewPage:
    """What the endpoints answer from.

    Attributes:
        store: The packages.
        tiles: The slides, as far as they are there.
        models: Model folders that may be the run's, for the command that is shown.
    """

    store: ReviewStore
    tiles: SlideTiles
    models: tuple[Path, ...]
    _thumbnails: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> Starlette:
        """The app, without any check of who is asking; see `uga.review.access`."""
        get, post, put = ["GET"], ["POST"], ["PUT"]
        patch = "/api/patches/{id}"
        routes = [
            Route("/", self._index, methods=get),
            Route("/patch/{id}", self._index, methods=get),
            Route("/static/{name:path}", self._static, methods=get),
            Route("/api/session", self._session, methods=get),
            Route("/api/patches", self._list, methods=get),
            Route("/api/corrections.zip", self._archive, methods=get),
            Route(patch, self._patch, methods=get),
            Route(f"{patch}/image.png", self._image, methods=get),
            Route(f"{patch}/thumbnail.jpg", self._thumbnail, methods=get),
            Route(f"{patch}/prediction", self._prediction, methods=get),
            Route(f"{patch}/uncertainty", self._uncertainty, methods=get),
            Route(f"{patch}/labels", self._labels, methods=get),
            Route(f"{patch}/labels", self._save, methods=put),
            Route(f"{patch}/review", self._review, methods=post),
            Route(f"{patch}/tiles/{{level:int}}/{{column:int}}_{{row:int}}.jpg", self._tile, methods=get),
        ]
        handlers: dict[Any, Any] = {RefusedError: _refused, HTTPException: _http_error, Exception: _defect}
        return Starlette(routes=routes, exception_handlers=handlers)

    def _index(self, request: Request) -> Response:
        answer = file_response(PAGE, request)
        if request.path_params.get("id", "") not in {"", *self.store.queue.entries}:
            answer.status_code = HTTPStatus.NOT_FOUND  # the page says so
        return answer

    def _static(self, request: Request) -> Response:
        return file_response(request.path_params["name"], request)

    def _session(self, _: Request) -> Response:
        queue = self.store.queue
        scale = heat(np.arange(256, dtype=np.uint8)[None], 255)[0]
        return JSONResponse(
            {
                "folder": queue.folder.resolve().name,
                "notice": RESEARCH_USE,
                "heat": scale.ravel().tolist(),
                "not_judged": NOT_JUDGED,
                "commands": [
                    {"text": command.text, "model": command.model.name, "is_complete": command.is_complete}
                    for command in finetune_commands(queue, self.models)
                ],
                "problems": [problem.reason for problem in queue.problems],
            }
        )

    def _list(self, _: Request) -> Response:
        return JSONResponse({"patches": [self._listed(entry) for entry in self.store.queue.entries.values()]})

    def _listed(self, entry: Entry) -> dict[str, Any]:
        record = entry.record
        try:
            shown = _standing(self.store.standing(entry))
        except RefusedError as error:
            shown = {"state": "unusable", "sentence": str(error)}
        return {
            "id": entry.id,
            "place": entry.place,
            "name": entry.name,
            "slide": record.slide.id,
            "rank": record.patch.rank,
            "score": record.patch.score_mean,
            "unit": record.uncertainty.unit,
            "stamp": entry.stamp(),
            "image_stamp": record.patch.image_sha256[:_STAMP_DIGITS],
            "tumour_fraction": record.patch.tumor_fraction,
            **shown,
        }

    def _patch(self, request: Request) -> Response:
        entry = self._entry(request)
        sheet, record = self.store.sheet(entry), entry.record
        colours = label_colours(record.labels, record.tumour_label)
        uncertainty = _uncertainty(entry)
        labels = sorted(record.labels.items(), key=lambda item: item[1])
        return JSONResponse(
            {
                **self._listed(entry),
                **_sheet(sheet),
                "size_px": record.size_px,
                "spacing_um": record.spacing_um,
                "grid": {"x": record.grid_x, "y": record.grid_y, "scale_x": record.scale_x, "scale_y": record.scale_y},
                "level0": {"x": record.patch.x, "y": record.patch.y},
                "labels": [
                    {
                        "name": name,
                        "value": value,
                        "colour": colours.get(name),
                        "is_tumour": name == record.tumour_label,
                    }
                    for name, value in labels
                ],
                "model": record.model.name,
                "uncertainty": {
                    "measure": record.uncertainty.measure,
                    "unit": record.uncertainty.unit,
                    "full_scale": record.uncertainty.full_scale,
                    "display_max": pictures.display_max([uncertainty]),
                },
                "spots": uncertain_spots(uncertainty),
                "outlines": label_outlines(sheet.prediction, (record.labels[name] for name in colours)),
                "tiles": self.tiles.source(record),
            }
        )

    def _image(self, request: Request) -> Response:
        entry = self._entry(request)
        return Response(_bytes(entry, IMAGE_FILE), media_type="image/png", headers=_UNCHANGING)

    def _thumbnail(self, request: Request) -> Response:
        """The patch with the outlines of its labels; the address the page uses changes with the labels."""
        entry = self._entry(request)
        # One at a time: a queue asks for dozens, and whoever opens a patch meanwhile shall not wait for them.
        with self._drawing:
            stamp = entry.stamp()
            known = self._thumbnails.get(entry.id)
            if known is None or known[0] != stamp:
                known = self._thumbnails[entry.id] = stamp, self._draw_thumbnail(entry)
        return Response(known[1], media_type="image/jpeg", headers=_UNCHANGING)

    def _draw_thumbnail(self, entry: Entry) -> bytes:
        sheet, record = self.store.sheet(entry, verify=False), entry.record
        picture = pictures.shrink(pictures.read_png(entry.folder / IMAGE_FILE), _THUMBNAIL_PX, nearest=False)
        labels = pictures.shrink(sheet.labels, _THUMBNAIL_PX, nearest=True)
        colours = label_colours(record.labels, record.tumour_label)
        shown = pictures.outlined(picture, labels, record.labels, colours, width=2)
        return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(shown), 85))

    def _prediction(self, request: Request) -> Response:
        return _map(self.store.sheet(self._entry(request), verify=False).prediction)

    def _uncertainty(self, request: Request) -> Response:
        return _map(_uncertainty(self._entry(request)))

    def _labels(self, request: Request) -> Response:
        sheet = self.store.sheet(self._entry(request), verify=False)
        return _map(sheet.labels, {"X-Review": json.dumps(_sheet(sheet))})

    async def _save(self, request: Request) -> Response:
        entry = self._entry(request)
        base, reviewer = parameter(request, "base"), reviewer_name(parameter(request, "reviewer"))
        expect_kind(request, "image/png")
        size_px = entry.record.size_px
        data = await read_body(request, largest_upload(size_px))

        def save() -> Sheet:
            labels = decode_upload(data, size_px, {*entry.record.labels.values(), NOT_JUDGED})
            return self.store.save(entry, base, reviewer, labels)

        return await self._answer(save)

    async def _review(self, request: Request) -> Response:
        entry = self._entry(request)
        expect_kind(request, "application/json")
        try:
            content = json.loads(await read_body(request, _MAX_JSON_BYTES))
            base, action = str(content["base"]), content["action"]
            reviewer = reviewer_name(content["reviewer"])
        except (ValueError, KeyError, TypeError) as error:
            raise bad_request("The request has to hold base, action and reviewer.") from error
        if action in ("undo", "redo"):
            direction: Literal["undo", "redo"] = action
            return await self._answer(partial(self.store.step, entry, base, reviewer, direction))
        if action in ("accept", "skip", "reopen"):
            decision: Literal["accept", "skip", "reopen"] = action
            return await self._answer(partial(self.store.decide, entry, base, reviewer, decision))
        raise bad_request("The action has to be undo, redo, accept, skip or reopen.")

    async def _answer(self, change: Callable[[], Sheet]) -> Response:
        return JSONResponse(_sheet(await run_in_threadpool(change)))

    def _tile(self, request: Request) -> Response:
        place = request.path_params
        record = self._entry(request).record
        data = self.tiles.tile(record.slide, place["level"], place["column"], place["row"])
        return Response(data, media_type="image/jpeg", headers=_UNCHANGING)

    def _archive(self, _: Request) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="corrections.zip"'}
        return StreamingResponse(corrections_zip(self.store), media_type="application/zip", headers=headers)

    def _entry(self, request: Request) -> Entry:
        entry = self.store.queue.entries.get(request.path_params["id"])
        if entry is None:
            raise not_found("patch")
        return entry


def _map(values: np.ndarray[Any, np.dtype[np.uint8]], headers: dict[str, str] | None = None) -> Response:
    return Response(deflate(values), media_type="application/octet-stream", headers={**_DEFLATED, **(headers or {})})


def _uncertainty(entry: Entry) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        values = pictures.read_png(_file(entry, UNCERTAINTY_FILE))
    except (OSError, ValueError, RuntimeError) as error:
        raise unusable(f"{entry.name}/{UNCERTAINTY_FILE} cannot be read; copy the package again.") from error
    if values.shape != (entry.record.size_px, entry.record.size_px):
        raise unusable(f"{entry.name}/{UNCERTAINTY_FILE} has another size than its patch; copy the package again.")
    return values


def _bytes(entry: Entry, name: str) -> bytes:
    try:
        return _file(entry, name).read_bytes()
    except OSError as error:
        raise unusable(f"{entry.name}/{name} cannot be read; copy the package again.") from error


def _file(entry: Entry, name: str) -> Path:
    path = entry.folder / name
    if path.is_symlink():
        raise unusable(
            f"{entry.name}/{name} is a link, and `uga review` follows none; put the file itself in its place."
        )
    return path


def _standing(standing: Standing) -> dict[str, Any]:
    review = standing.review
    return {
        "state": standing.state,
        "reviewer": None if review is None else review.reviewer,
        "at": None if review is None else review.at.isoformat(),
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    return {
        **_standing(sheet.standing),
        "version": sheet.version,
        "labels_crc32": zlib.crc32(sheet.labels.tobytes()),
        "as_predicted": bool((sheet.labels == sheet.prediction).all()),
        "undoable": sheet.steps.undoable,
        "redoable": sheet.steps.redoable,
        "source": None if sheet.source is None else sheet.source.name,
        "differing": [path.name for path in sheet.differing],
    }


def _refused(_: Request, error: RefusedError) -> Response:
    content: dict[str, Any] = {"code": error.code, "sentence": str(error)}
    if isinstance(error, ConflictError):
        content["current"] = _sheet(error.sheet)
    return JSONResponse(content, error.status)


def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"code": "http", "sentence": error.detail}, error.status_code, error.headers)


async def _defect(_: Request, error: Exception) -> Response:
    sentence = f"A defect of UGA kept this from being done ({type(error).__name__}); the terminal shows more."
    return JSONResponse({"code": "defect", "sentence": sentence}, HTTPStatus.INTERNAL_SERVER_ERROR)

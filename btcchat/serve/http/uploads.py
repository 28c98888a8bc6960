"""Routes that take files: a caption, a change map, and the images as the model sees them."""

import io
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from PIL import Image
from pydantic import BaseModel

from btcchat.change_encoder.change_map import geotiff, grey, overlay
from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions
from btcchat.media.page import data_uri
from btcchat.media.source import Embedded
from btcchat.processor import Sample
from btcchat.serve.engine import Closed, QueueFull
from btcchat.serve.http.errors import APIError, documented, from_engine
from btcchat.serve.http.images import RequestImages
from btcchat.serve.http.live import LiveAnswer, client_of
from btcchat.serve.http.openai import Usage
from btcchat.serve.http.question import Question, check_tokens, reading_of
from btcchat.serve.http.service import Service

LISTS = ("dates", "files")  # the fields that can be repeated
LONGEST_NAME = 60  # characters of a file's name that an error shows
PREVIEW_SIDE = 1024  # pixels of the longer side of an image of /v1/frames
Before = Annotated[UploadFile, File(description="The earlier date: PNG, JPEG, WebP, GeoTIFF, JPEG 2000, ...")]
After = Annotated[UploadFile, File(description="The later date")]
Bands = Annotated[str | None, Form(description="Bands to use as red, green and blue, such as 4,3,2")]
Stretch = Annotated[str | None, Form(description="shared, per-date, none or LOW,HIGH")]
Nodata = Annotated[str | None, Form(description="The pixel value that marks missing data, or none")]


class ReadingFields(BaseModel):
    """The form fields that say how images are read."""

    bands: str | None = None
    stretch: str | None = None
    nodata: str | None = None


class Caption(BaseModel):
    caption: str
    model: str
    finish_reason: str
    usage: Usage
    btcchat: dict[str, Any]


def routes(service: Service) -> APIRouter:
    router = APIRouter(responses=documented(400, 415, 422), dependencies=[Depends(_check_fields)])

    @router.post("/v1/caption")
    async def caption(
        request: Request,
        before: Before,
        after: After,
        dates: Annotated[list[str] | None, Form(description="The dates of before and after")] = None,
        max_tokens: Annotated[int | None, Form(ge=1)] = None,
        temperature: Annotated[float, Form(ge=0, le=2)] = 0.0,
        top_p: Annotated[float, Form(gt=0, le=1)] = 1.0,
        seed: Annotated[int | None, Form(ge=0, lt=2**63)] = None,
        bands: Bands = None,
        stretch: Stretch = None,
        nodata: Nodata = None,
    ) -> Caption:
        """Describe in words what changed between two dates."""
        question = service.model.config.caption_question
        images = RequestImages("pair", [await _file(before, "before"), await _file(after, "after")])
        fields = ReadingFields(bands=bands, stretch=stretch, nodata=nodata)
        tokens = check_tokens(max_tokens, service.settings, "max_tokens", status=422)
        try:
            options = GenerationOptions(tokens, temperature, top_p, seed=seed)
        except BTCChatError as error:
            raise APIError(422, str(error), param=str(error).split(" ")[0]) from None
        sample = await service.read(_sample, service, Question(question, images, dates=dates or None), fields)
        try:
            live = LiveAnswer(service, request, sample, options)
        except (QueueFull, Closed) as error:
            raise from_engine(error) from None
        text = await live.whole()
        about = {"modality": "pair", "images": 2, **live.notes}
        return Caption(
            caption=text,
            model=service.settings.model_id,
            finish_reason=live.finish_reason,
            usage=Usage(**live.usage()),
            btcchat=about,
        )

    @router.post("/v1/change_map", response_class=Response)
    async def change_map(
        request: Request,
        before: Before,
        after: After,
        format: Annotated[
            Literal["png", "overlay", "geotiff"], Form(description="png: grey levels, 255 is the most change")
        ] = "png",
        bands: Bands = None,
        stretch: Stretch = None,
        nodata: Nodata = None,
    ) -> Response:
        """A map of where it changed: how far apart the features of the two dates are, 0 to 1, as an image."""
        model = service.model
        files = [await _file(before, "before"), await _file(after, "after")]
        fields = ReadingFields(bands=bands, stretch=stretch, nodata=nodata)
        frames = await service.read(_frames, service, RequestImages("pair", files), fields)
        try:
            change = await service.call(lambda: model.change_map(*frames), client_of(request))
        except (QueueFull, Closed) as error:
            raise from_engine(error) from None
        if format == "geotiff":
            try:
                data = await service.read(geotiff, change, files[1])
            except BTCChatError as error:
                raise APIError(422, str(error), param="after") from None
        else:
            image = overlay(change, frames[1]) if format == "overlay" else grey(change)
            data = await service.read(_png, image)
        headers = {"X-Change-Range": f"{change.min():.6f},{change.max():.6f}"}
        return Response(data, media_type="image/tiff" if format == "geotiff" else "image/png", headers=headers)

    @router.post("/v1/frames")
    async def frames(
        files: Annotated[list[UploadFile], File(description="In order of time")],
        modality: Annotated[Literal["image", "pair", "series", "video"], Form()],
        bands: Bands = None,
        stretch: Stretch = None,
        nodata: Nodata = None,
    ) -> dict[str, Any]:
        """The images as the model sees them, or the frames that it takes from a video, as PNG."""
        _ = service.model
        names = ["video"] if modality == "video" and len(files) == 1 else [f"image {i + 1}" for i in range(len(files))]
        images = RequestImages(
            modality, [await _file(*item) for item in zip(files, names, strict=True)], names == ["video"]
        )
        fields = ReadingFields(bands=bands, stretch=stretch, nodata=nodata)
        return {"modality": modality, "frames": await service.read(_previews, service, images, fields)}

    return router


async def _check_fields(request: Request) -> None:
    """Raise APIError 422 for a field that the route does not have, and for a second value of one that takes one."""
    form = await request.form()  # as FastAPI has parsed it
    known = [field.alias for field in request.scope["route"].dependant.body_params]
    for name in form:
        if name not in known:
            raise APIError(422, f"{name[:40]!r} is not a field; the fields are {', '.join(known)}", param=name[:40])
        if name not in LISTS and len(form.getlist(name)) > 1:
            raise APIError(422, f"{name}: given more than once; give it once", param=name)


async def _file(upload: UploadFile, name: str) -> Embedded:
    """name: of its field, or its number; errors show it with the last part of the file's own name."""
    own = re.split(r"[/\\]", upload.filename or "")[-1].strip()
    own = own if len(own) <= LONGEST_NAME else f"{own[: LONGEST_NAME - 13]}...{own[-10:]}"
    return Embedded(f"{name}: {own}" if own else name, await upload.read())


def _frames(service: Service, images: RequestImages, fields: ReadingFields) -> list[Image.Image]:
    """In a reader thread. Raises APIError 422 for a wrong reading field, 415 for a file that cannot be read."""
    reading = _reading(service, fields)
    try:
        return service.frames(images, reading)
    except BTCChatError as error:
        raise APIError(415, str(error)) from None


def _sample(service: Service, question: Question, fields: ReadingFields) -> Sample:
    frames = _frames(service, question.images, fields)
    try:
        return service.sample(question, frames)
    except BTCChatError as error:
        raise APIError(422, str(error), param="dates" if str(error).startswith("dates") else None) from None


def _reading(service: Service, fields: ReadingFields) -> Any:
    try:
        return reading_of(fields, service.settings)
    except BTCChatError as error:
        raise APIError(422, str(error), param=str(error).split(" ")[0]) from None


def _previews(service: Service, images: RequestImages, fields: ReadingFields) -> list[dict[str, Any]]:
    previews = []
    for frame in _frames(service, images, fields):
        info = frame.info
        frame.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        facts = {name: info.get(name) for name in ("bands", "range", "full_size")}
        previews.append({"width": frame.width, "height": frame.height, **facts, "url": data_uri(frame)})
    return previews


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

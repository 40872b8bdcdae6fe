"""A case's maps as files for other programs: GeoJSON for QuPath, OME-TIFF for everything else."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from workflows.review.desk import Asking
from workflows.review.errors import problems
from workflows.review.pixel_api import Case, shown_of
from wsi.exports import EXPORTS
from wsi.heatmap import SlideMaps

router = APIRouter(prefix="/api/cases/{case_id}", tags=["exports"])


@router.get("/heatmap.geojson", response_class=FileResponse, responses=problems(401, 404))
async def heatmap_geojson(request: Request, case_id: Case, reader: Asking) -> FileResponse:
    """Tissue, and every tile with its attention and evidence; level-0 px."""
    return await _export(request, case_id, "geojson", "application/geo+json")


@router.get("/heatmap.ome.tiff", response_class=FileResponse, responses=problems(401, 404))
async def heatmap_ome_tiff(request: Request, case_id: Case, reader: Asking) -> FileResponse:
    """All maps as channels of one pyramid of float32."""
    return await _export(request, case_id, "ome_tiff", "image/tiff")


async def _export(request: Request, case_id: int, name: str, kind: str) -> FileResponse:
    shown = await shown_of(request, case_id)
    path = await asyncio.to_thread(_written, name, shown.kept.slide_maps)
    done = BackgroundTask(shutil.rmtree, path.parent, ignore_errors=True)
    # called by the case's number: the name of a slide may name a patient, and downloads lie about
    return FileResponse(path, media_type=kind, filename=f"case-{case_id}-{path.name}", background=done)


def _written(name: str, maps: SlideMaps) -> Path:
    """An export's file in a folder of its own, which is to be removed."""
    export = EXPORTS[name]
    folder = Path(tempfile.mkdtemp(prefix="histograde-"))
    try:
        export.write(folder, maps)
        return folder / export.file_names[0]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


__all__ = ["router"]

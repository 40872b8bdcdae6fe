"""A case's maps and regions as files for other programs: GeoJSON for QuPath, OME-TIFF for everything else."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.background import BackgroundTask

from workflows.review import trail
from workflows.review.cases import case_row, seen_by
from workflows.review.desk import Asking, desk_of
from workflows.review.errors import problems
from workflows.review.label_table import regions_drawn
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


@router.get("/regions.geojson", response_class=JSONResponse, responses=problems(401, 404))
def regions_geojson(request: Request, case_id: Case, reader: Asking) -> JSONResponse:
    """What readers drew; level-0 px. With double reading only one's own until one has decided."""
    desk = desk_of(request)
    with desk.engine.connect() as connection:
        case = case_row(connection, case_id)
        others = seen_by(connection, case_id, reader, desk.settings.double_reading)
        rows = [row for row in trail.of_case(connection, case_id) if others or row["user_id"] == reader.user_id]
    name = {"Content-Disposition": f'attachment; filename="case-{case_id}-regions.geojson"'}
    return JSONResponse(regions_drawn(case["slide_id"], rows), headers=name, media_type="application/geo+json")


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

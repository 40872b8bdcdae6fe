"""Which slides a run has in work, so that one that ends the whole process is known to the next start.

`.in-work/<slide_id>` in the run's folder holds how many starts took the slide up, and is removed when the slide is
through or the run ends in order. What is found there was in work when a process died.
"""

from pathlib import Path

FOLDER = ".in-work"
BY_ITSELF = "by itself"


class InWork:
    """Marks of slides in work.

    Parameters
    ----------
    folder : Path
        The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def begin(self, slide_id: str) -> int:
        """Mark a slide, and say how many earlier starts died with it in work."""
        deaths = self._read(slide_id).count("\n")
        self._write(slide_id, "taken up\n" * (deaths + 1))
        return deaths

    def alone(self, slide_id: str) -> None:
        """Say that nothing else is in work beside the slide."""
        self._write(slide_id, self._read(slide_id) + BY_ITSELF)

    def died_alone(self, slide_id: str) -> bool:
        """Whether a start died with this slide and nothing else in work."""
        return self._read(slide_id).endswith(BY_ITSELF)

    def end(self, slide_id: str) -> None:
        """Take the mark away."""
        try:
            (self._folder / slide_id).unlink(missing_ok=True)
            self._folder.rmdir()
        except OSError:  # others are in work
            return

    def _read(self, slide_id: str) -> str:
        try:
            return (self._folder / slide_id).read_text()
        except OSError:
            return ""

    def _write(self, slide_id: str, text: str) -> None:
        """A mark that cannot be written, as on a full disk, is left out."""
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / slide_id).write_text(text)
        except OSError:
            return

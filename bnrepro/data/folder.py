"""A folder of the user's own images, sorted into classes."""

from bnrepro import config as c
from bnrepro.data import image_tree
from bnrepro.data.arrays import Raw, canonical
from bnrepro.data.source import Copy, Source, readable
from bnrepro.errors import DataError


class Folder(Source):
    """Class folders or zips of them; nothing is known about them beforehand."""

    settings: c.Folder

    def copies(self) -> list[Copy]:
        """The folder itself, if it looks like class folders."""
        with readable(self.root):
            looks_right = image_tree.is_there(self.root)
        return [Copy("folder", self.root, lambda: canonical(self.read()))] if looks_right else []

    def read(self) -> Raw:
        """All images below the folder."""
        return image_tree.read(self.root, None, self.progress, self.settings.size)

    def count(self) -> tuple[int, int] | None:
        """The numbers of images, from the names alone."""
        return image_tree.count(self.root)

    def fetch(self) -> None:
        """Nobody knows where they would be downloaded from."""
        raise DataError(
            f"no images, and none to download ({self.root}): put train/CLASS/*.png and "
            f"test/CLASS/*.png or zips of them there, or name another folder with dataset.root"
        )

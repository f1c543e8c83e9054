"""A file to read for HDF5, which locks nothing, and which processes forked from one another may share."""

import io
import os


class ReadAnywhere(io.FileIO):
    """A file with a position of its own: the system's is shared by all processes that are forked from one another."""

    _at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        if not hasattr(os, "preadv"):
            return super().seek(offset, whence)
        before = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self.fileno()).st_size}
        self._at = before[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at if hasattr(os, "preadv") else super().tell()

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; a file that ends before is cut, and HDF5 would take what is in the buffer for its bytes."""
        rest = memoryview(buffer).cast("B")
        n_bytes = len(rest)
        while rest:
            n_read = os.preadv(self.fileno(), [rest], self._at) if hasattr(os, "preadv") else super().readinto(rest)
            if not n_read:
                raise OSError("the file ends before")
            self._at, rest = self._at + n_read, rest[n_read:]
        return n_bytes

"""A file system that lacks something: a call is refused below one folder, with the error that real ones give."""

import contextlib
import errno
import fcntl
import mmap
import os
import stat

import pytest


def _place(of):
    """The path that a call is about: a path, a descriptor, or an open file."""
    if hasattr(of, "fileno"):
        of = of.fileno()
    return os.readlink(f"/proc/self/fd/{of}") if isinstance(of, int) else os.fspath(of)


CALLS = {
    "link": (os, "symlink", lambda src, dst, *_, **__: dst),
    "flush file": (os, "fsync", lambda fd: None if stat.S_ISDIR(os.fstat(fd).st_mode) else fd),
    "flush folder": (os, "fsync", lambda fd: fd if stat.S_ISDIR(os.fstat(fd).st_mode) else None),
    "lock": (fcntl, "lockf", lambda file, *_: file),
    "map": (mmap, "mmap", lambda fd, *_, **__: fd),
    "replace": (os, "replace", lambda src, dst, **_: dst if os.path.exists(dst) else None),
    "rename folder": (os, "rename", lambda src, dst, **_: dst if os.path.isdir(src) else None),
    "make folder": (os, "mkdir", lambda path, *_, **__: path),
    "cut": (os, "ftruncate", lambda fd, *_: fd),
}
"""Name -> the module and function, and what a call of it is about (None if it is not meant)."""


@contextlib.contextmanager
def refused(call, number, below):
    """Refuse one of CALLS with an error number, for what lies below a folder."""
    module, name, about = CALLS[call]
    intact = getattr(module, name)

    def refusing(*arguments, **others):
        place = about(*arguments, **others)
        if place is not None and os.path.abspath(_place(place)).startswith(f"{below}/"):
            raise OSError(number, os.strerror(number), str(place))
        return intact(*arguments, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, refusing)
        yield


LACKS = {
    "exFAT has no links": ("link", errno.EPERM, "make symbolic links"),
    "VirtualBox's shared folders have no links": ("link", errno.EROFS, "make symbolic links"),
    "SMB has no links": ("link", errno.EOPNOTSUPP, "make symbolic links"),
    "FUSE without fsync": ("flush file", errno.ENOSYS, "flush a file"),
    "SMB does not flush folders": ("flush folder", errno.EINVAL, "flush a folder"),
    "NFS without its lock daemon": ("lock", errno.ENOLCK, "lock a file"),
    "Lustre without flock": ("lock", errno.ENOSYS, "lock a file"),
}
"""Operations that a run does without: the call, its error and the words of the line that says so."""
REFUSES = {
    "a store of objects does not rename over": ("replace", errno.EEXIST, "rename a file over another: File exists"),
    "a store of objects does not rename folders": ("rename folder", errno.ENOSYS, "rename a folder: Function not"),
    "no room to flush": ("flush file", errno.ENOSPC, "flush a file: No space left"),
    "a disk that fails": ("flush folder", errno.EIO, "flush a folder: Input/output error"),
    "no room for a link": ("link", errno.EDQUOT, "make symbolic links: Disk quota exceeded"),
    "read only": ("make folder", errno.EROFS, "cannot be written: Read-only file system"),
}
"""Operations that a run needs: the call, its error and the reason that is given."""

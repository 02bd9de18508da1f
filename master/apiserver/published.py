"""Documents that are made once and asked for by every client: compressed, and not sent twice to who has them."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

from master.apiserver.reply import Reply


class Published:
    """A document as it goes out: compressed, with a tag that changes when it does."""

    __slots__ = ("_gzipped", "etag")

    def __init__(self, made: bytes, etag: str = "") -> None:
        self.etag = etag or hashlib.sha256(made).hexdigest()[:32].upper()
        self._gzipped = gzip.compress(made, 6, mtime=0)

    @property
    def plain(self) -> bytes:
        """The document itself."""
        return gzip.decompress(self._gzipped)

    def reply(self, environ: dict[str, Any], content_type: str = "application/json") -> Reply:
        """The answer: nothing where the client has it already, compressed where it can be."""
        headers = {"ETag": f'"{self.etag}"', "Vary": "Accept, Accept-Encoding"}
        if self.etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            return Reply(b"", 304, content_type, headers)
        if "gzip" not in environ.get("HTTP_ACCEPT_ENCODING", ""):
            return Reply(self.plain, 200, content_type, headers)
        return Reply(self._gzipped, 200, content_type, headers | {"Content-Encoding": "gzip"})

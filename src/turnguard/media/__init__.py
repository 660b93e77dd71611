"""Media: pictures, documents and URLs become the views and texts that a model can judge.

One entry, `Media.prepare`. Pillow, pypdfium2 and aiohttp are imported only when a part needs them.
"""

from turnguard.media.data_uris import split_data_uris
from turnguard.media.media import Media
from turnguard.media.types import Prepared, Skipped, View
from turnguard.media.urls.once import Fetches

__all__ = ["Fetches", "Media", "Prepared", "Skipped", "View", "split_data_uris"]
